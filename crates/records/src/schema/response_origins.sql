-- Where a response and all that it builds on were asked for from, as its server writes it. Of responses
-- of before nobody knows.
ALTER TABLE responses ADD COLUMN origin TEXT;
