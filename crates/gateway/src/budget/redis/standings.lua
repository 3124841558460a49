-- 3 and on: accounts. Answers where each stands.
local all = {}
for which = 3, #ARGV do
  all[#all + 1] = standing(ARGV[which])
end
return {'ok', tonumber(memory[2]), all}
