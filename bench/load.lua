-- Given `read` and a file of ids, one a line, each request reads one of them; given `place` and a
-- file of products, each orders one piece of three of them.
function init(arguments)
   local work, file = arguments[1], arguments[2]
   if not work then return end
   local ids = {}
   for id in io.lines(file) do ids[#ids + 1] = id end
   math.randomseed(os.time())
   local works = {}
   function works.read()
      return wrk.format('GET', wrk.path .. '/' .. ids[math.random(#ids)])
   end
   function works.place()
      local first = math.random(#ids - 2)
      local lines = {}
      for number = 0, 2 do
         lines[#lines + 1] = string.format('{"product_id":"%s","quantity":1}', ids[first + number])
      end
      return wrk.format('POST', nil, nil, '{"lines":[' .. table.concat(lines, ',') .. ']}')
   end
   request = works[work]
end

-- One line of JSON at the end: what wrk prints by itself is rounded and in mixed units.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "us": %d, "failed": %d, "p50_us": %d, "p99_us": %d}\n',
      summary.requests, summary.duration,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(99)))
end
