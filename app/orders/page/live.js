// Shows what happens to orders, as it happens.
//
// Not by EventSource: it cannot send Authorization, and a token in the URL ends up in logs. So the
// stream is read with fetch. The tokens live in this module's memory: a reload signs out, and no
// other script can find them.

const MOST_ROWS = 100;
const LONGEST_PAUSE = 30_000; // ms

const form = document.querySelector("#sign-in");
const state = document.querySelector("#state");
const table = document.querySelector("#orders");
const rows = table.querySelector("tbody");
const signOut = document.querySelector("#sign-out");

let tokens = null;
let lastEventId = "";
let going = new AbortController();

class SignedOut extends Error {}

form.addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const [username, password] = [form.querySelector("#email"), form.querySelector("#password")];
  const body = new URLSearchParams({ username: username.value, password: password.value });
  password.value = "";
  say("Signing in …");
  try {
    const answer = await fetch("/api/v1/auth/login", { method: "POST", body });
    if (!answer.ok) {
      say(await reason(answer));
      return;
    }
    tokens = await answer.json();
  } catch {
    say("The service does not answer; try again.");
    return;
  }
  going = new AbortController();
  show(true);
  follow(going.signal);
});

signOut.addEventListener("click", () => {
  const { refresh_token } = tokens;
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify({ refresh_token });
  fetch("/api/v1/auth/logout", { method: "POST", headers, body }).catch(() => {});
  end("Signed out.");
});

async function follow(signal) {
  let pause = 1000;
  while (!signal.aborted) {
    try {
      await readStream(signal, () => { pause = 1000; });
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof SignedOut) {
        end(error.message);
        return;
      }
    }
    say("The stream has ended; trying again …");
    await new Promise((resume) => setTimeout(resume, pause * (0.5 + Math.random())));
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

async function readStream(signal, onMessage) {
  const answer = await open(signal);
  say("Live.");
  const messages = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(eventStream());
  const reader = messages.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    if (value.id) lastEventId = value.id;
    onMessage();
    if (value.event === "event") add(JSON.parse(value.data));
    if (value.event === "reset") rows.replaceChildren();
    if (value.event === "end") return;
  }
}

async function open(signal) {
  let answer = await ask(signal);
  if (answer.status === 401) {
    await refresh();
    answer = await ask(signal);
  }
  if (answer.status === 401 || answer.status === 403) throw new SignedOut(await reason(answer));
  if (!answer.ok) throw new Error(await reason(answer));
  return answer;
}

function ask(signal) {
  const headers = { authorization: `Bearer ${tokens.access_token}`, accept: "text/event-stream" };
  if (lastEventId) headers["last-event-id"] = lastEventId;
  return fetch("/api/v1/events", { headers, signal, cache: "no-store" });
}

async function refresh() {
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify({ refresh_token: tokens.refresh_token });
  const answer = await fetch("/api/v1/auth/refresh", { method: "POST", headers, body });
  if (answer.status === 401) throw new SignedOut("Signed out by the service; sign in again.");
  if (!answer.ok) throw new Error(await reason(answer));
  tokens = await answer.json();
}

// Text in, messages out, as the HTML standard says: fields by line, a message by empty line.
function eventStream() {
  let rest = "";
  let message = { id: "", event: "", data: [] };
  return new TransformStream({
    transform(chunk, out) {
      const lines = (rest + chunk).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (message.id || message.event || message.data.length) {
            out.enqueue({ ...message, data: message.data.join("\n") });
          }
          message = { id: "", event: "", data: [] };
          continue;
        }
        const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (name === "data") message.data.push(value);
        else if (name === "id" || name === "event") message[name] = value;
      }
    },
  });
}

function add({ at, order_id, kind, payload }) {
  const row = document.createElement("tr");
  const total = payload.total_cents === undefined ? "" : (payload.total_cents / 100).toFixed(2);
  // As text, never as markup, whatever it says.
  for (const text of [new Date(at).toLocaleTimeString(), order_id, kind, payload.status, total]) {
    row.insertCell().textContent = text ?? "";
  }
  row.dataset.order = order_id;
  rows.prepend(row);
  while (rows.rows.length > MOST_ROWS) rows.lastElementChild.remove();
}

function end(message) {
  going.abort();
  tokens = null;
  lastEventId = "";
  rows.replaceChildren();
  show(false);
  say(message);
}

function show(signedIn) {
  form.hidden = signedIn;
  table.hidden = !signedIn;
  signOut.hidden = !signedIn;
}

function say(text) {
  state.textContent = text;
}

async function reason(answer) {
  try {
    return (await answer.json()).detail;
  } catch {
    return `The service answered ${answer.status}.`;
  }
}
