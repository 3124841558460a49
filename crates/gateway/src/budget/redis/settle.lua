-- 3 id, 4 this try of asking, 5 and 6 what it took of micros and tokens (empty: all that was held),
-- 7 for how many milliseconds the end is remembered, for one who asks again since its answer was
-- lost. Answers what was held.
local key, try = held(ARGV[3]), ARGV[4]
local found = redis.call('HMGET', key, 'micros', 'tokens', 'ended')
if not found[1] or (found[3] and found[3] ~= try) then return {'gone'} end
local amount = {found[1], found[2]}
if not found[3] then
  local charged = amount
  if ARGV[5] ~= '' then
    charged = {least(ARGV[5], amount[1]), least(ARGV[6], amount[2])}
  end
  close(ARGV[3], names(key), amount, charged)
  redis.call('HSET', key, 'ended', try)
  redis.call('PEXPIRE', key, ARGV[7])
end
return {'ok', step(), amount[1], amount[2]}
