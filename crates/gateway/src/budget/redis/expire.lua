-- 3 what is held since before this moment ends, 4 so many at most. Answers each.
local ended = {}
local old = redis.call('ZRANGEBYSCORE', opens, '-inf', '(' .. ARGV[3], 'LIMIT', 0, ARGV[4])
for _, id in ipairs(old) do
  local found = redis.call('HMGET', held(id), 'micros', 'tokens', 'sent')
  local all = names(held(id))
  local amount = {found[1] or '0', found[2] or '0'}
  local charged = found[3] == '1' and amount or {'0', '0'}
  close(id, all, amount, charged)
  redis.call('DEL', held(id))
  ended[#ended + 1] = {id, charged[1], charged[2], all}
end
return {'ok', step(), ended}
