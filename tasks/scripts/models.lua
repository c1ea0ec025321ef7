-- Every model that was ever served, and what the workers that serve it now say of it.
-- ARGV: prefix  -> {name, offer as the first release reads it, whole offer or "", number of workers, {what they say} ...};
-- what several say alike is there once, and "" for those of the first release, which say nothing
local function said_of(worker, model)
  local read, said = pcall(cjson.decode, try("GET", key("worker", worker)) or "")
  local text = read and type(said) == "table" and type(said.serves) == "table" and said.serves[model]
  return type(text) == "string" and text or ""
end

local function workers_of(model)
  local found = try("ZRANGEBYSCORE", key("serving", model), now(), "+inf") or {}
  for _, worker in ipairs(try("ZRANGEBYSCORE", key("serving_derived", model), now(), "+inf") or {}) do
    table.insert(found, worker)
  end
  return found
end

local found = {}
local models = redis.call("HGETALL", key("models"))
for i = 1, #models, 2 do
  local model, words, seen = models[i], {}, {}
  local workers = workers_of(model)
  for _, worker in ipairs(workers) do
    local text = said_of(worker, model)
    if not seen[text] then table.insert(words, text) end
    seen[text] = true
  end
  local whole = try("HGET", key("offers"), model) or ""
  for _, part in ipairs({model, models[i + 1], whole, #workers}) do table.insert(found, part) end
  table.insert(found, words)
end
return found
