-- 3 id, 4 this try of asking, 5 micros, 6 tokens, 7 now, 8 and 9 the most of what is open and of
-- accounts, 10 the time whose accounts are forgotten; then five for each claim: the account, its
-- end, for how long it is kept (empty: always), and its limits of micros and tokens.
local id, try, micros, tokens = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local first, width = 10, 5
local claims = (#ARGV - first) / width
local key = held(id)
local before = redis.call('HMGET', key, 'begun', 'ended')
if before[1] and not before[2] then
  -- Held already; by this very call, where its first answer was lost on its way.
  if before[1] == try then return {'ok', step()} end
  return {'twice'}
end
local accounts = at .. 'accounts'
if redis.call('ZCARD', opens) >= tonumber(ARGV[8])
  or redis.call('ZCOUNT', accounts, '(' .. ARGV[10], '+inf') + claims > tonumber(ARGV[9]) then
  return {'full'}
end
for claim = 0, claims - 1 do
  local base = first + width * claim
  local now = standing(ARGV[base + 1])
  local function over(spent, reserved, more, most)
    return tonumber(spent or 0) + tonumber(reserved or 0) + tonumber(more) > tonumber(most)
  end
  if over(now[1], now[3], micros, ARGV[base + 4])
    or over(now[2], now[4], tokens, ARGV[base + 5]) then
    return {'over', claim, now}
  end
end

-- What makes something goes before what removes something: a server without memory refuses the
-- former only where nothing was written yet.
local fields = {'begun', try, 'at_ms', ARGV[7], 'sent', '0', 'micros', micros, 'tokens', tokens}
for claim = 0, claims - 1 do
  local base = first + width * claim
  local name, keep = ARGV[base + 1], ARGV[base + 3]
  redis.call('HINCRBY', account(name), 'held_micros', micros)
  redis.call('HINCRBY', account(name), 'held_tokens', tokens)
  redis.call('HINCRBY', account(name), 'calls', '1')
  if keep ~= '' and redis.call('PTTL', account(name)) < tonumber(keep) then
    redis.call('PEXPIRE', account(name), keep)
  end
  redis.call('ZADD', accounts, ARGV[base + 2], name)
  fields[#fields + 1] = tostring(claim + 1)
  fields[#fields + 1] = name
end
redis.call('ZADD', opens, ARGV[7], id)
redis.call('DEL', key)
redis.call('HSET', key, unpack(fields))
redis.call('ZREMRANGEBYSCORE', accounts, '-inf', ARGV[10])
return {'ok', step()}
