-- What each step begins with. KEYS[1] is what all keys begin with. ARGV[1] and ARGV[2] are what the
-- asking process knows of this memory: its mark, and steps that it was told of. A step that ends in
-- an error is not undone by the server, so each looks before it writes. Numbers are below 2^53,
-- where doubles are exact, and travel as decimal text.
local at = KEYS[1]
local opens = at .. 'open'
local memory = redis.call('HMGET', at .. 'memory', 'mark', 'steps')
if memory[1] ~= ARGV[1] or (tonumber(memory[2]) or -1) < tonumber(ARGV[2]) then
  return {'lost'}
end

local function account(name) return at .. 'account:' .. name end
local function held(id) return at .. 'held:' .. id end
local function step() return redis.call('HINCRBY', at .. 'memory', 'steps', 1) end
local function minus(text) return text == '0' and '0' or '-' .. text end
local function least(a, b) return tonumber(a) < tonumber(b) and a or b end

local function rate(name) return at .. 'rate:' .. name end

-- Microseconds since 1970.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Keeps when a bucket is full, until it is.
local function fill(key, full, now)
  if full <= now then
    redis.call('DEL', key)
  else
    local keep = string.format('%.0f', math.ceil((full - now) / 1000) + 1)
    redis.call('SET', key, string.format('%.0f', full), 'PX', keep)
  end
end

local function standing(name)
  return redis.call('HMGET', account(name), 'spent_micros', 'spent_tokens', 'held_micros',
    'held_tokens', 'calls')
end

-- The accounts of what is held, in their order.
local function names(key)
  local all = {}
  repeat
    local name = redis.call('HGET', key, tostring(#all + 1))
    if name then all[#all + 1] = name end
  until not name
  return all
end

-- Ends what is held. The first write is one that a server without memory allows, and then it allows
-- the others. An account that is gone ended more than a day ago: nothing can be held in it again.
local function close(id, all, amount, charged)
  redis.call('ZREM', opens, id)
  for _, name in ipairs(all) do
    local key = account(name)
    if redis.call('EXISTS', key) == 1 then
      redis.call('HINCRBY', key, 'held_micros', minus(amount[1]))
      redis.call('HINCRBY', key, 'held_tokens', minus(amount[2]))
      redis.call('HINCRBY', key, 'spent_micros', charged[1])
      redis.call('HINCRBY', key, 'spent_tokens', charged[2])
      redis.call('HINCRBY', key, 'calls', '-1')
    end
  end
end
