// OpenInference's JavaScript instrumentations: asks the script's two questions of one conversation and writes the spans
// as one export request. Run by openinference_js_run.py: node openinference_js.mjs TAG MODEL_SERVER FILE. Tags: `oi_js_openai`
// (the client's chat, by a hand-written loop), `oi_js_responses` (its Responses API), `oi_js_langchain` (a model with
// tools, by a hand-written loop), `oi_js_vercel` (the Vercel AI SDK's spans, rewritten); `_streamed` streams.

import { writeFileSync } from "node:fs";
import { context } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { setSession, setUser } from "@arizeai/openinference-core";

const [tag, baseURL, file] = process.argv.slice(2);
const isStreamed = tag.endsWith("_streamed");
const QUESTIONS = ["What is the weather in Paris and Atlantis?", "And tomorrow in Rome?"];
const SYSTEM = "You are a weather service.";
const WEATHER = { Paris: "sunny, 21 degrees", Rome: "rainy" };
const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const FUNCTION = { name: "get_weather", description: "The weather in a city.", parameters: PARAMETERS };

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
const exporter = new InMemorySpanExporter();
const isVercel = tag.startsWith("oi_js_vercel");
const Processor = isVercel
  ? (await import("@arizeai/openinference-vercel")).OpenInferenceSimpleSpanProcessor
  : SimpleSpanProcessor;
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({ "service.name": tag }),
  spanProcessors: [isVercel ? new Processor({ exporter }) : new Processor(exporter)],
});

const told = (city) => WEATHER[city] ?? `error: no such city: ${city}`;

async function openai() {
  const { default: OpenAI } = await import("openai");
  const { OpenAIInstrumentation } = await import("@arizeai/openinference-instrumentation-openai");
  const instrumentation = new OpenAIInstrumentation();
  instrumentation.setTracerProvider(provider);
  instrumentation.manuallyInstrument(OpenAI);
  return new OpenAI({ apiKey: "none", baseURL });
}

async function chat() {
  const client = await openai();
  const messages = [{ role: "system", content: SYSTEM }];
  const tools = [{ type: "function", function: FUNCTION }];
  for (const question of QUESTIONS) {
    messages.push({ role: "user", content: question });
    for (;;) {
      const asked = { model: "gpt-4o-mini", messages, tools, temperature: 0.2 };
      const answer = isStreamed ? await gathered(client, asked) : (await client.chat.completions.create(asked)).choices[0].message;
      messages.push(answer);
      if (!answer.tool_calls?.length) break;
      for (const call of answer.tool_calls) {
        messages.push({ role: "tool", tool_call_id: call.id, content: told(JSON.parse(call.function.arguments).city) });
      }
    }
  }
}

async function gathered(client, asked) {
  const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
  let content = "";
  const calls = [];
  for await (const { choices } of stream) {
    for (const { delta } of choices) {
      content += delta.content ?? "";
      for (const piece of delta.tool_calls ?? []) {
        calls[piece.index] ??= { id: piece.id, type: "function", function: { name: piece.function.name, arguments: "" } };
        calls[piece.index].function.arguments += piece.function.arguments ?? "";
      }
    }
  }
  return { role: "assistant", content: content || null, ...(calls.length ? { tool_calls: calls } : {}) };
}

async function responses() {
  const client = await openai();
  const tools = [{ type: "function", ...FUNCTION, strict: false }];
  const input = [];
  for (const question of QUESTIONS) {
    input.push({ role: "user", content: question });
    for (;;) {
      const asked = { model: "gpt-4o-mini", instructions: SYSTEM, input, tools, temperature: 0.2 };
      let answer = await client.responses.create({ ...asked, ...(isStreamed ? { stream: true } : {}) });
      if (isStreamed) {
        for await (const event of answer) if (event.type === "response.completed") answer = event.response;
      }
      input.push(...answer.output);
      const calls = answer.output.filter((item) => item.type === "function_call");
      if (!calls.length) break;
      for (const call of calls) {
        input.push({ type: "function_call_output", call_id: call.call_id, output: told(JSON.parse(call.arguments).city) });
      }
    }
  }
}

async function langchain() {
  const managers = await import("@langchain/core/callbacks/manager");
  const { LangChainInstrumentation } = await import("@arizeai/openinference-instrumentation-langchain");
  const instrumentation = new LangChainInstrumentation();
  instrumentation.setTracerProvider(provider);
  instrumentation.manuallyInstrument(managers);
  const { ChatOpenAI } = await import("@langchain/openai");
  const { tool } = await import("@langchain/core/tools");
  const { HumanMessage, SystemMessage } = await import("@langchain/core/messages");
  const weather = tool(({ city }) => told(city), { ...FUNCTION, schema: PARAMETERS });
  const model = new ChatOpenAI({ model: "gpt-4o-mini", apiKey: "none", temperature: 0.2, configuration: { baseURL } });
  const bound = model.bindTools([weather]);
  const messages = [new SystemMessage(SYSTEM)];
  for (const question of QUESTIONS) {
    messages.push(new HumanMessage(question));
    for (;;) {
      let answer;
      if (isStreamed) {
        for await (const chunk of await bound.stream(messages)) answer = answer ? answer.concat(chunk) : chunk;
      } else {
        answer = await bound.invoke(messages);
      }
      messages.push(answer);
      if (!answer.tool_calls?.length) break;
      for (const call of answer.tool_calls) messages.push(await weather.invoke(call));
    }
  }
}

async function vercel() {
  const ai = await import("ai");
  const { createOpenAI } = await import("@ai-sdk/openai");
  const settings = {
    model: createOpenAI({ apiKey: "none", baseURL }).chat("gpt-4o-mini"),
    system: SYSTEM,
    temperature: 0.2,
    stopWhen: ai.stepCountIs(6),
    tools: {
      get_weather: ai.tool({
        description: FUNCTION.description,
        inputSchema: ai.jsonSchema(PARAMETERS),
        execute: async ({ city }) => {
          if (city in WEATHER) return WEATHER[city];
          throw new Error(`no such city: ${city}`);
        },
      }),
    },
    experimental_telemetry: { isEnabled: true, tracer: provider.getTracer("ai"), functionId: "weather-agent" },
  };
  const messages = [];
  for (const question of QUESTIONS) {
    messages.push({ role: "user", content: question });
    if (isStreamed) {
      const result = ai.streamText({ ...settings, messages });
      for await (const _ of result.textStream);
      messages.push(...(await result.response).messages);
    } else {
      messages.push(...(await ai.generateText({ ...settings, messages })).response.messages);
    }
  }
}

const runs = { oi_js_openai: chat, oi_js_responses: responses, oi_js_langchain: langchain, oi_js_vercel: vercel };
const known = setUser(setSession(context.active(), { sessionId: "sess-j" }), { userId: "u-j" });
await context.with(known, runs[tag.replace("_streamed", "")]);
await provider.forceFlush();

const spans = exporter.getFinishedSpans();
for (const event of spans.flatMap((span) => span.events)) {
  delete event.attributes?.["exception.stacktrace"]; // paths of the machine that captured
}
writeFileSync(file, ProtobufTraceSerializer.serializeRequest(spans));
console.log(file, spans.length, "spans");
