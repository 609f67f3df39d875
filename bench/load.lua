-- One line of JSON at the end: what wrk prints by itself is rounded and in mixed units.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "us": %d, "failed": %d, "p50_us": %d, "p99_us": %d}\n',
      summary.requests, summary.duration,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(99)))
end
