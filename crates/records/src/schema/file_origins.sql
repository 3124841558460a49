-- Where a file and all that it was made of came from, as its server writes it. Of files of before
-- nobody knows.
ALTER TABLE files ADD COLUMN origin TEXT;
