import assert from "node:assert/strict";
import { test } from "node:test";
import { line } from "./predictions.mjs";

const answer = {
  schema: "sightline.prediction.v1", kind: "prediction", status: "ok", camera: "door", model: "people",
  captured_at: "2026-01-31T08:00:00Z", detections: [],
};

test("an answer without objects says that nothing is in view", () => {
  assert.equal(line(JSON.stringify(answer)), "2026-01-31T08:00:00Z door people: nothing in view");
});

test("objects come with their scores, and a damaged picture is told", () => {
  const detections = [{ class: "person", score: 0.912 }, { class: "dog", score: 0.5 }];
  assert.equal(line(JSON.stringify({ ...answer, detections, status: "degraded" })),
    "2026-01-31T08:00:00Z door people: person 0.91, dog 0.50 (degraded)");
});

test("a gap is unknown, never nothing", () => {
  const gap = { ...answer, kind: "gap", status: "unknown", detections: undefined };
  const from = "2026-01-31T08:00:00Z";
  assert.equal(line(JSON.stringify({ ...gap, gap: { reason: "stalled", from } })),
    "2026-01-31T08:00:00Z door people: unknown, stalled until further notice");
  assert.equal(line(JSON.stringify({ ...gap, gap: { reason: "auth", from, to: "2026-01-31T08:00:05Z" } })),
    "2026-01-31T08:00:00Z door people: unknown, auth until 2026-01-31T08:00:05Z");
});

test("what is not a prediction is refused", () => {
  assert.throws(() => line("not JSON"), SyntaxError);
  assert.throws(() => line(JSON.stringify({ ...answer, schema: "other" })), /schema other/);
  assert.throws(() => line(JSON.stringify({ ...answer, detections: undefined })), TypeError);
});
