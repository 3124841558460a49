-- 3 the account, 4 its end, 5 for how long it is kept (empty: always), 6 and 7 the least that is
-- spent of micros and tokens.
local key = account(ARGV[3])
local now = redis.call('HMGET', key, 'spent_micros', 'spent_tokens')
for which, field in ipairs({'spent_micros', 'spent_tokens'}) do
  if tonumber(now[which] or 0) < tonumber(ARGV[5 + which]) then
    redis.call('HSET', key, field, ARGV[5 + which])
  end
end
if ARGV[5] ~= '' and redis.call('PTTL', key) < tonumber(ARGV[5]) then
  redis.call('PEXPIRE', key, ARGV[5])
end
redis.call('ZADD', at .. 'accounts', ARGV[4], ARGV[3])
return {'ok', step()}
