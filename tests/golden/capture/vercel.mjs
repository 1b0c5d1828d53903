// Asks the script's two questions through the Vercel AI SDK and writes its spans as one export request.
// Run by vercel_run.py: node vercel.mjs TAG MODEL_SERVER FILE. The first question is plain, unless the tag ends in
// `_streamed`; the second is streamed.

import { writeFileSync } from "node:fs";
import { context } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { createOpenAI } from "@ai-sdk/openai";
import * as ai from "ai";

const [tag, baseURL, file] = process.argv.slice(2);
const isOldest = tag.startsWith("vercel4");
const QUESTIONS = ["What is the weather in Paris and Atlantis?", "And tomorrow in Rome?"];
const SCHEMA = ai.jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] });
const WEATHER = { Paris: "sunny, 21 degrees", Rome: "rainy" };

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
const exporter = new InMemorySpanExporter();
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({ "service.name": tag }),
  spanProcessors: [new SimpleSpanProcessor(exporter)],
});
const tracer = provider.getTracer("ai");

async function telemetry() {
  const metadata = { sessionId: "sess-v", userId: "u-v" };
  if (!tag.startsWith("vercel7")) {
    return { experimental_telemetry: { isEnabled: true, tracer, functionId: "weather-agent", metadata } };
  }
  const { LegacyOpenTelemetry, OpenTelemetry } = await import("@ai-sdk/otel");
  const integration =
    tag.startsWith("vercel7_legacy")
      ? new LegacyOpenTelemetry({ tracer })
      : new OpenTelemetry({ tracer: provider.getTracer("gen_ai"), runtimeContext: true });
  const includeRuntimeContext = { sessionId: true, userId: true };
  return {
    runtimeContext: metadata,
    telemetry: { isEnabled: true, functionId: "weather-agent", includeRuntimeContext, integrations: [integration] },
  };
}

const settings = {
  model: createOpenAI({ apiKey: "none", baseURL }).chat("gpt-4o-mini"),
  system: "You are a weather service.",
  temperature: 0.2,
  ...(isOldest ? { maxSteps: 6 } : { stopWhen: (ai.stepCountIs ?? ai.isStepCount)(6) }),
  tools: {
    get_weather: ai.tool({
      description: "The weather in a city.",
      [isOldest ? "parameters" : "inputSchema"]: SCHEMA,
      execute: async ({ city }) => {
        if (city in WEATHER) return WEATHER[city];
        const problem = `no such city: ${city}`;
        if (isOldest) return { error: problem }; // an exception would end the whole run
        throw new Error(problem);
      },
    }),
  },
  ...(await telemetry()),
};

async function streamed(messages) {
  const result = ai.streamText({ ...settings, messages });
  for await (const _ of result.textStream);
  return (await result.responseMessages) ?? (await result.response).messages;
}

async function plain(messages) {
  const result = await ai.generateText({ ...settings, messages });
  return result.responseMessages ?? result.response.messages;
}

const messages = [{ role: "user", content: QUESTIONS[0] }];
const answered = await (tag.endsWith("_streamed") ? streamed : plain)(messages);
messages.push(...answered, { role: "user", content: QUESTIONS[1] });
await streamed(messages);

const spans = exporter.getFinishedSpans();
for (const event of spans.flatMap((span) => span.events)) {
  delete event.attributes?.["exception.stacktrace"]; // paths of the machine that captured
}
writeFileSync(file, ProtobufTraceSerializer.serializeRequest(spans));
console.log(file, spans.length, "spans");
