-- 3 how many to leave out, 4 how many to tell of at most. Answers ids and times of what is held.
local first = tonumber(ARGV[3])
local all = redis.call('ZRANGE', opens, first, first + tonumber(ARGV[4]) - 1, 'WITHSCORES')
return {'ok', tonumber(memory[2]), all}
