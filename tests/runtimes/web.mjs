// node web.mjs MODULE MODEL GIVEN MADE: runs a model on the feeds of a JSON file in onnxruntime-web.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const KINDS = { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array };
const [module, model, given, made] = process.argv.slice(2);
const ort = await import(pathToFileURL(module).href);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "fatal";

function tensor({ type, dims, data }) {
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  return new ort.Tensor(type, new KINDS[type](bytes.buffer), dims);
}

function spelled({ type, dims, data }) {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return { type, dims, data: bytes.toString("base64") };
}

const file = new Uint8Array(readFileSync(model));
const session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
const answers = [];
for (const feed of JSON.parse(readFileSync(given))) {
  const inputs = Object.entries(feed).map(([name, value]) => [name, tensor(value)]);
  const result = await session.run(Object.fromEntries(inputs));
  const outputs = session.outputNames.map((name) => [name, spelled(result[name])]);
  answers.push(Object.fromEntries(outputs));
}
writeFileSync(made, JSON.stringify(answers));
