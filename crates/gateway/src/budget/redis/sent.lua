-- 3 id.
local found = redis.call('HMGET', held(ARGV[3]), 'begun', 'ended')
if not found[1] or found[2] then return {'gone'} end
redis.call('HSET', held(ARGV[3]), 'sent', '1')
return {'ok', step()}
