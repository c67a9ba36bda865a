// The description of the API for people, made in the browser from openapi.json.

import { tryOut } from "./docs-try.js";

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function name(schema) {
  return schema.$ref.split("/").at(-1);
}

/** A schema in one line: "string", "list of Device", "integer or null". */
function kind(schema = {}) {
  if (schema.$ref) return name(schema);
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const !== undefined) return String(schema.const);
  if (schema.prefixItems) return `[${schema.prefixItems.map(kind).join(", ")}]`;
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  if (schema.additionalProperties?.type) return `object of ${kind(schema.additionalProperties)}`;
  return schema.type ?? "anything";
}

function limits(schema) {
  const said = [];
  const { items = {} } = schema;
  if (schema.default !== undefined) said.push(`default ${JSON.stringify(schema.default)}`);
  for (const [word, text] of [["minimum", "from"], ["maximum", "to"], ["maxLength", "characters up to"]]) {
    if (schema[word] !== undefined) said.push(`${text} ${schema[word]}`);
  }
  const examples = schema.examples ?? items.examples;
  if (examples) said.push(`such as ${examples.join(", ")}`);
  return said.join("; ");
}

function row(title, type, words, more) {
  const last = element("td", "", words ?? "");
  if (more) last.append(element("span", "limits", more));
  return element("tr", "", element("th", "", title), element("td", "kind", type), last);
}

function parameters(operation) {
  return operation.parameters.map((one) => row(
    `${one.name}${one.required ? " *" : ""}`, kind(one.schema), one.description, limits(one.schema)));
}

/** The fields of a schema, those of the models in it below, indented by their path. */
function fields(schema, schemas, path = "", seen = []) {
  const at = schema.$ref ? name(schema) : null;
  if (at && seen.includes(at)) return [];
  const whole = at ? schemas[at] : schema;
  const below = at ? [...seen, at] : seen;
  const parts = whole.anyOf ?? (whole.items ? [whole.items] : []);
  if (!whole.properties) return parts.flatMap((part) => fields(part, schemas, path, below));
  return Object.entries(whole.properties).flatMap(([key, value]) => [
    row(path + key, kind(value), value.description, limits(value)),
    ...fields(value, schemas, `${path}${key}.`, below),
  ]);
}

function section(title, ...content) {
  return [element("h3", "", title), ...content];
}

function bodyOf(content, schemas) {
  const [media, { schema, example }] = Object.entries(content)[0];
  const found = [];
  const rows = fields(schema, schemas);
  if (rows.length) found.push(element("table", "", element("tbody", "", ...rows)));
  if (example !== undefined) {
    const text = typeof example === "string" ? example : JSON.stringify(example, null, 2);
    found.push(element("pre", "", text));
  }
  return { media: Object.keys(content).join(", ") || media, found };
}

function responses(operation, schemas) {
  const good = Object.entries(operation.responses).find(([status]) => status.startsWith("2"));
  const { media, found } = bodyOf(good[1].content, schemas);
  const refused = Object.entries(operation.responses)
    .filter(([status]) => !status.startsWith("2"))
    .map(([status, one]) => row(status, one.description, Object.keys(one.headers ?? {}).join(", ")));
  return [
    ...section(`Answer ${good[0]}: ${media}`, ...found),
    ...section("Other answers, as application/problem+json with detail, code and hint",
      element("table", "", element("tbody", "", ...refused))),
  ];
}

function article(path, method, operation, schemas) {
  const word = element("span", "method", method.toUpperCase());
  word.dataset.method = method.toUpperCase();
  const scope = operation["x-scope"] ? `scope ${operation["x-scope"]}` : "no login";
  const inside = element("div", "inside");
  const details = element("details", "",
    element("summary", "", word, element("code", "", path),
      element("span", "words", operation.summary), element("span", "scope", scope)), inside);
  const made = element("article", "", details);
  made.id = operation.operationId;
  // Made when it is looked at: a hundred tables at once would be slow on a small machine.
  details.addEventListener("toggle", () => {
    if (inside.firstChild) return;
    const rows = parameters(operation);
    if (rows.length) inside.append(...section("Parameters", element("table", "", element("tbody", "", ...rows))));
    if (operation.requestBody) {
      const { media, found } = bodyOf(operation.requestBody.content, schemas);
      inside.append(...section(`Body: ${media}`, ...found));
    }
    inside.append(...section("Try it", tryOut(path, method, operation)));
    inside.append(...responses(operation, schemas));
  });
  return made;
}

function listing(operations) {
  const tags = [...new Set(operations.map(({ operation }) => operation.tags[0]))];
  return tags.flatMap((tag) => [
    element("h2", "", tag),
    ...operations.filter(({ operation }) => operation.tags[0] === tag).map(({ path, method, operation }) => {
      const word = element("span", "method", method.toUpperCase());
      word.dataset.method = method.toUpperCase();
      const link = element("a", "", word, element("span", "", path.replace("/api/v1/", "")));
      link.href = `#${operation.operationId}`;
      return link;
    }),
  ]);
}

function open() {
  const wanted = document.getElementById(location.hash.slice(1));
  if (!wanted) return;
  wanted.querySelector("details").open = true;
  wanted.scrollIntoView();
}

async function show() {
  const main = document.getElementById("operations");
  try {
    const reply = await fetch(new URL("../openapi.json", import.meta.url));
    if (!reply.ok) throw new Error(`openapi.json: ${reply.status}`);
    const { info, paths, components } = await reply.json();
    const operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
    document.getElementById("version").textContent = info.version;
    document.getElementById("contents").append(...listing(operations));
    const about = element("p", "", info.description);
    about.id = "about";
    main.replaceChildren(about, ...operations.map(({ path, method, operation }) =>
      article(path, method, operation, components.schemas)));
    open();
  } catch (error) {
    main.replaceChildren(element("p", "", `The description cannot be shown: ${error.message}`));
  }
}

addEventListener("hashchange", open);
show();
