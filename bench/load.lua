-- Given a file of product ids, one a line, each request orders one piece of three of them.
function init(arguments)
   if not arguments[1] then return end
   local products = {}
   for id in io.lines(arguments[1]) do products[#products + 1] = id end
   math.randomseed(os.time())
   request = function()
      local first = math.random(#products - 2)
      local lines = {}
      for number = 0, 2 do
         lines[#lines + 1] = string.format(
            '{"product_id":"%s","quantity":1}', products[first + number])
      end
      local body = '{"lines":[' .. table.concat(lines, ',') .. ']}'
      return wrk.format('POST', nil, nil, body)
   end
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
