-- How Argo CD sees every kind of gridplane.dev: the order of kstatus, so that it agrees with Flux and
-- `kubectl wait`. `obj` is the object; no library beyond Lua's own is used.
local health = { status = "Progressing", message = "the controller has not looked at it yet" }

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "is being deleted"
  return health
end

local status = obj.status
if status == nil then
  return health
end
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  health.message = "the controller has not looked at this generation yet"
  return health
end

local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end

local function told(condition)
  if condition.message ~= nil and condition.message ~= "" then
    return condition.reason .. ": " .. condition.message
  end
  return condition.reason
end

if found.Reconciling ~= nil and found.Reconciling.status == "True" then
  health.message = told(found.Reconciling)
elseif found.Stalled ~= nil and found.Stalled.status == "True" then
  -- Nothing goes on until a person acts.
  health.status, health.message = "Degraded", told(found.Stalled)
elseif found.Ready ~= nil then
  if found.Ready.status == "True" then
    health.status = "Healthy"
  end
  health.message = told(found.Ready)
end
return health
