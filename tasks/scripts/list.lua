-- A page of jobs, newest first. ARGV: prefix, tenant or "", most, id of the last page's last job or "", its score in the
-- index or "" where that is not known, state, state ...
-- -> per record {id, score, {fields and values}}, the last empty where it is none; nil where the last page's job is gone
local _, tenant, most, before, newest = unpack(ARGV)
if newest == "" then newest = before == "" and "+inf" or try("HGET", job_key(before), "created") end
if before ~= "" and not tonumber(newest) then return nil end

local found = {}
for i = 6, #ARGV do
  local index = tenant == "" and key("index", ARGV[i]) or key("index", ARGV[i], tenant)
  -- more than a page: jobs submitted in the very millisecond of the last page's last job are there again
  local page = try("ZREVRANGEBYSCORE", index, newest, "-inf", "WITHSCORES", "LIMIT", 0, most + 256)
  if not page then return redis.error_reply("WRONGTYPE " .. index .. " is no sorted set") end
  for j = 1, #page, 2 do
    if before == "" or tonumber(page[j + 1]) < tonumber(newest) or page[j] < before then
      table.insert(found, {page[j], page[j + 1]})
    end
  end
end
table.sort(found, function(a, b)
  local one, other = tonumber(a[2]), tonumber(b[2])
  return one > other or (one == other and a[1] > b[1])
end)

local records = {}
for _, item in ipairs(found) do
  if #records == tonumber(most) then break end
  local record = try("HGETALL", job_key(item[1])) or {}
  local there = #record > 0 or redis.call("EXISTS", job_key(item[1])) == 1
  if there then table.insert(records, {item[1], item[2], record}) end  -- else it expired; a full page: there may be more
end
return records
