-- Where a batch was begun from, as its server writes it, since its lines are asked for from there. Of
-- batches of before nobody knows.
ALTER TABLE batches ADD COLUMN origin TEXT;
