-- 3 the bucket, 4 and 5 by how many microseconds it is full later (what is owed), or earlier (what
-- was taken and is given back). Answers as taking does.
local key = rate(ARGV[3])
local now = clock()
local full = tonumber(redis.call('GET', key) or '0')
if ARGV[4] ~= '0' then
  full = math.min(math.max(full, now) + tonumber(ARGV[4]), 9007199254740991)
else
  full = math.max(full - tonumber(ARGV[5]), 0)
end
fill(key, full, now)
return {'ok', tonumber(memory[2]), 0, now, full}
