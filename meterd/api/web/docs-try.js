// A form for one request: what is typed is sent to this server, and its answer shown.

const BASE = new URL("../", import.meta.url);
const MOST = 20_000; // characters of an answer that are shown
const PATIENCE = 4000; // ms; a stream is shown for as long

function element(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

function field(parameter) {
  const { schema } = parameter;
  const choices = schema.enum ?? schema.items?.enum;
  const input = element(choices ? "select" : "input");
  if (choices) input.append(...["", ...choices].map((choice) => element("option", choice)));
  input.name = parameter.name;
  input.required = parameter.required;
  return element("label", element("span", parameter.name), input);
}

function address(path, parameters, form) {
  let filled = path;
  const query = new URLSearchParams();
  for (const { name, in: place, schema } of parameters) {
    const value = form.elements[name].value;
    if (place === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(value));
    else if (value && schema.type === "array") value.split(",").forEach((one) => query.append(name, one.trim()));
    else if (value) query.append(name, value);
  }
  const tail = query.size ? `?${query}` : "";
  return new URL(filled.replace(/^\//, "") + tail, BASE);
}

function pretty(text, media) {
  if (!media.includes("json") || text.length > MOST) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** All of an answer, or as much of it as comes in time. */
async function read(reply) {
  const reader = reply.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
      if (text.length > MOST) break;
    }
  } catch (error) {
    if (error.name !== "TimeoutError" && error.name !== "AbortError") throw error;
  }
  reader.cancel().catch(() => {});
  const shown = pretty(text, reply.headers.get("Content-Type") ?? "");
  return shown.length > MOST ? `${shown.slice(0, MOST)}\n… and more` : shown;
}

async function send(method, url, body, status, output) {
  const options = { method: method.toUpperCase(), signal: AbortSignal.timeout(PATIENCE) };
  if (body !== null) Object.assign(options, { body, headers: { "Content-Type": "application/json" } });
  const began = performance.now();
  try {
    const reply = await fetch(url, options);
    const took = Math.round(performance.now() - began);
    status.dataset.good = String(reply.ok);
    status.textContent = `${reply.status} ${reply.statusText}, ${took} ms, ${url.pathname}${url.search}`;
    output.textContent = await read(reply);
  } catch (error) {
    status.dataset.good = "false";
    status.textContent = `No answer: ${error.message}`;
    output.textContent = "";
  }
  output.hidden = !output.textContent;
}

export function tryOut(path, method, operation) {
  const form = element("form", ...operation.parameters.map(field));
  let text = null;
  if (operation.requestBody) {
    text = element("textarea");
    text.rows = 4;
    text.setAttribute("aria-label", "Body");
    const { example } = Object.values(operation.requestBody.content)[0];
    text.value = JSON.stringify(example ?? {}, null, 2);
    form.append(text);
  }
  const status = element("p");
  status.className = "status";
  status.setAttribute("role", "status");
  const output = element("pre");
  output.hidden = true;
  form.append(element("button", `Send ${method.toUpperCase()}`), status, output);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(method, address(path, operation.parameters, form), text && text.value, status, output);
  });
  return form;
}
