// OpenAI's own Node client against a server at URL, with KEY; the package is in the folder HOME:
// `openai_client.mjs URL KEY HOME`. Started by the test in clients.rs.
//
// Each function of CHECKS is one check; all run, and the exit code tells whether all passed.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [url, key, home] = process.argv.slice(2);
const OpenAI = createRequire(`${home}/`)("openai");
const options = { baseURL: `${url}/v1`, apiKey: key, maxRetries: 0, timeout: 120_000 };
const client = new OpenAI(options);
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "user", content: "Why is the sky blue?" }];
const ask = { model, messages, temperature: 0, max_tokens: 24 };

async function metric(name) {
  const reply = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${key}` } });
  const line = (await reply.text()).split("\n").find((line) => line.startsWith(`${name} `));
  return Number(line.split(" ").at(-1));
}

async function fails(kind, call) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error}`);
    return error;
  }
  assert.fail(`no ${kind.name}`);
}

const CHECKS = {
  async wholeAndStreamedAreTheSame() {
    const whole = await client.chat.completions.create(ask);
    const text = whole.choices[0].message.content;
    assert.equal(whole.choices[0].finish_reason, "length");
    assert.equal(whole.usage.completion_tokens, 24);
    let said = "";
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
      said += chunk.choices[0]?.delta?.content ?? "";
    }
    assert.equal(said, text);
    assert.ok(text.trim());
  },

  async completions() {
    const prompt = "The capital of France is";
    const more = { model, prompt, temperature: 0, max_tokens: 4 };
    assert.match((await client.completions.create(more)).choices[0].text, /Paris/);
  },

  async structuredOutput() {
    const schema = {
      type: "object",
      properties: { size: { enum: ["big", "small"] } },
      required: ["size"],
      additionalProperties: false,
    };
    const response_format = { type: "json_schema", json_schema: { name: "s", schema } };
    const more = { ...ask, max_tokens: 60, response_format };
    const answer = await client.chat.completions.create(more);
    assert.match(JSON.parse(answer.choices[0].message.content).size, /^(big|small)$/);
  },

  async responses() {
    const wanted = { model, input: "Reply with the single word: yes", temperature: 0 };
    const whole = await client.responses.create(wanted);
    assert.equal(whole.status, "completed");
    let said = "";
    let last;
    for await (const event of await client.responses.create({ ...wanted, stream: true })) {
      if (event.type === "response.output_text.delta") said += event.delta;
      last = event;
    }
    assert.equal(last.type, "response.completed");
    assert.equal(said, whole.output_text);
    assert.deepEqual(await client.responses.retrieve(last.response.id), {
      ...last.response,
      output_text: said,
    });
    const after = { ...wanted, input: "Go on.", previous_response_id: whole.id };
    const next = await client.responses.create({ ...after, max_output_tokens: 4 });
    const items = await client.responses.inputItems.list(next.id);
    assert.equal(items.data[0].content[0].text, "Go on.");
    await client.responses.delete(whole.id);
    await fails(OpenAI.NotFoundError, () => client.responses.retrieve(whole.id));
    const broken = await fails(OpenAI.BadRequestError, () => client.responses.create(after));
    assert.equal(broken.code, "previous_response_not_found");
  },

  async responsesWithTools() {
    const parameters = { type: "object", properties: { place: { type: "string", maxLength: 9 } } };
    const tool = { type: "function", name: "weather", parameters, strict: false };
    let input = "What is the weather in Bern?";
    let previous_response_id;
    for (let turn = 0; turn < 3; turn += 1) {
      const more = { tools: [tool], tool_choice: "required", parallel_tool_calls: false };
      const wanted = { model, input, temperature: 0, max_output_tokens: 100, ...more };
      const answer = await client.responses.create({ ...wanted, previous_response_id });
      const call = answer.output.find((item) => item.type === "function_call");
      JSON.parse(call.arguments);
      input = [{ type: "function_call_output", call_id: call.call_id, output: `${turn} degrees` }];
      previous_response_id = answer.id;
    }
  },

  async responsesInTheBackground() {
    const wanted = { model, input: "Why is the sky blue?", temperature: 0, max_output_tokens: 8 };
    let response = await client.responses.create({ ...wanted, background: true });
    const end = Date.now() + 60_000;
    while (["queued", "in_progress"].includes(response.status)) {
      assert.ok(Date.now() < end, "it does not end");
      await new Promise((wake) => setTimeout(wake, 20));
      response = await client.responses.retrieve(response.id);
    }
    assert.equal(response.output_text, (await client.responses.create(wanted)).output_text);
    const endless = { ...wanted, background: true, max_output_tokens: 4000, ignore_eos: true };
    const running = await client.responses.create(endless);
    assert.equal((await client.responses.cancel(running.id)).status, "cancelled");
  },

  async errors() {
    const create = (more) => () => client.chat.completions.create({ ...ask, ...more });
    const wrong = await fails(OpenAI.BadRequestError, create({ temperature: 3 }));
    assert.equal(wrong.param, "temperature");
    assert.equal((await fails(OpenAI.NotFoundError, create({ model: "none" }))).status, 404);
    const stranger = new OpenAI({ ...options, apiKey: "not-the-key" });
    await fails(OpenAI.AuthenticationError, () => stranger.models.list());
  },

  async cancellingFreesWhatWasHeld() {
    const endless = { ...ask, max_tokens: 4000, ignore_eos: true, stream: true };
    const stream = await client.chat.completions.create(endless);
    let pieces = 0;
    for await (const _ of stream) {
      pieces += 1;
      if (pieces === 4) {
        assert.equal(await metric("ingle_server_answers_in_flight"), 1);
        stream.controller.abort();
      }
    }
    const end = Date.now() + 60_000;
    while ((await metric("ingle_server_answers_in_flight")) > 0) {
      assert.ok(Date.now() < end, "it goes on");
      await new Promise((wake) => setTimeout(wake, 10));
    }
  },
};

let failed = false;
for (const [name, check] of Object.entries(CHECKS)) {
  try {
    await check();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed = true;
    console.log(`FAILED  ${name}\n${error.stack}`);
  }
}
process.exitCode = failed ? 1 : 0;
