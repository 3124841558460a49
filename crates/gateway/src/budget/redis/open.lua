-- Learns of this memory, and gives it a mark where it has none. KEYS[1] is what all keys begin
-- with; ARGV[1] a mark that nobody else has.
redis.call('HSETNX', KEYS[1] .. 'memory', 'mark', ARGV[1])
redis.call('HSETNX', KEYS[1] .. 'memory', 'steps', '0')
return redis.call('HMGET', KEYS[1] .. 'memory', 'mark', 'steps')
