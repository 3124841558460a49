-- 3 the bucket, 4 in how many microseconds flows in what is taken, 5 a minute of them. By the
-- server's clock, which all who share it go by. Answers what it has to wait, now, and when the
-- bucket is full. A bucket that is full is forgotten.
local key = rate(ARGV[3])
local now = clock()
local before = tonumber(redis.call('GET', key) or '0')
local full = math.max(before, now) + tonumber(ARGV[4])
local over = full - (now + tonumber(ARGV[5]))
if over > 0 then return {'ok', tonumber(memory[2]), over, now, before} end
fill(key, full, now)
return {'ok', tonumber(memory[2]), 0, now, full}
