-- Sends one kind of request for many users in turn, so that requests for the same user are rare:
--   wrk … -- check FIRST USERS THREADS CLIENT_ID TOKEN    POST /check with a login of the user
--   wrk … -- list  FIRST USERS THREADS                    GET the sessions of the user
-- The users have the numbers from FIRST on.
-- Prints one line of JSON at the end. The ids of users and sessions are those of tenant.rs.

local started = 0

function setup(thread)
  thread:set("number", started)
  started = started + 1
end

-- Formats all requests before the measurement, so that it does not include the time for formatting.
function init(args)
  local kind, first, users, threads = args[1], tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  requests = {}
  for position = 0, users - 1 do
    local user = first + position
    if kind == "check" then
      local body = string.format(
        '{"user_id":"auth0|%06d","client_id":"%s","sid":"sid-%06d-0","protocol":"oidc-basic-profile"}',
        user, args[5], user)
      local headers = { ["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. args[6] }
      requests[position] = wrk.format("POST", "/check", headers, body)
    else
      requests[position] = wrk.format("GET", string.format("/api/v2/users/auth0%%7C%06d/sessions?take=50", user))
    end
  end
  count = users
  -- All threads send the same sequence, each from a different start.
  position = math.floor(number * users / threads)
end

function request()
  position = (position + 1) % count
  return requests[position]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"micros":%d,"p50_micros":%d,"p99_micros":%d,"failed":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
