// What people do with OpenAI's library for Node. Arguments: the server's URL, its key, the folder with node_modules.
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, key, folder] = process.argv.slice(2);
const OpenAI = createRequire(join(folder, "package.json"))("openai");
const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
const model = "starter";
const messages = [{ role: "user", content: "Name a colour." }];
const parameters = {
  type: "object",
  properties: { city: { enum: ["Rome", "Oslo"] } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "weather", description: "The weather", parameters } }];
const found = [];

/** Note a call that must resolve to something true. */
async function works(name, call) {
  try {
    const value = await call();
    found.push({ name, passed: Boolean(value), found: JSON.stringify(value ?? null).slice(0, 400) });
    return value;
  } catch (error) {
    found.push({ name, passed: false, found: String(error).slice(0, 400) });
  }
}

/** Note a call that must be refused with a status. */
async function refused(name, status, call) {
  try {
    found.push({ name, passed: false, found: JSON.stringify(await call()) });
  } catch (error) {
    found.push({ name, passed: error.status === status && Boolean(error.message), found: String(error).slice(0, 400) });
  }
}

const chat = (options) => client.chat.completions.create({ model, messages, max_tokens: 12, temperature: 0, ...options });

await works("models.list", async () => (await client.models.list()).data.map((each) => each.id));
const whole = await works("chat", async () => (await chat()).choices[0].message.content);
await works("stream", async () => {
  let text = "";
  for await (const chunk of await chat({ stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
  return text === whole;
});
await works("usage in a stream", async () => {
  let usage = null;
  for await (const chunk of await chat({ stream: true, stream_options: { include_usage: true } })) usage = chunk.usage;
  return usage.total_tokens;
});
await works("chat.completions.stream", async () => {
  const runner = client.chat.completions.stream({ model, messages, max_tokens: 12, temperature: 0 });
  return (await runner.finalContent()) === whole;
});
await works("a stream that is aborted", async () => {
  const stream = await chat({ stream: true, max_tokens: 200 });
  for await (const _ of stream) stream.controller.abort();
  return true;
});
await works("json_schema", async () => {
  const format = { type: "json_schema", json_schema: { name: "weather", schema: parameters, strict: true } };
  return JSON.parse((await chat({ response_format: format, max_tokens: 60 })).choices[0].message.content).city;
});
await works("tools", async () => {
  const answer = await chat({ tools, tool_choice: "required", parallel_tool_calls: false, max_tokens: 60 });
  return JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments).city;
});
await works("runTools", async () => {
  const run = client.chat.completions.runTools(
    {
      model,
      messages,
      max_tokens: 60,
      temperature: 0,
      tool_choice: { type: "function", function: { name: "weather" } },
      parallel_tool_calls: false,
      tools: [{ type: "function", function: { ...tools[0].function, parse: JSON.parse, function: () => "sunny" } }],
    },
    { maxChatCompletions: 2 },
  );
  await run.done();
  return run.messages.some((message) => message.role === "tool");
});
await works("logprobs", async () => (await chat({ logprobs: true, top_logprobs: 2 })).choices[0].logprobs.content.length);
await works("completions", async () =>
  (await client.completions.create({ model, prompt: ["One", "Two"], max_tokens: 4 })).choices.length === 2);
await refused("400", 400, () => chat({ temperature: 500 }));
await refused("404", 404, () => chat({ model: "none" }));
const stranger = new OpenAI({ baseURL: url, apiKey: "wrong", maxRetries: 0 });
await refused("401", 401, () => stranger.models.list());
await refused("401, 10 MB", 401, () => stranger.completions.create({ model, prompt: "x".repeat(10_000_000) }));
console.log(JSON.stringify(found));
