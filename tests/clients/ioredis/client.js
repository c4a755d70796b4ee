// What a program with ioredis does every day, through every node: node client.js PORT...

const assert = require("node:assert/strict");
const Redis = require("ioredis");
const { version } = require("ioredis/package.json");

async function strings(client, other) {
  assert.equal(await client.set("js:k", "v"), "OK");
  assert.equal(await other.get("js:k"), "v");
  assert.equal(await client.set("js:k", "w", "NX"), null);
  assert.equal(await client.set("js:k", "w", "EX", 100, "GET"), "v");
  assert.ok((await other.ttl("js:k")) > 90);
  assert.equal(await client.append("js:k", "xyz"), 4);
  assert.equal(await other.strlen("js:k"), 4);
  await client.mset({ "js:a": 1, "js:b": 2 });
  assert.deepEqual(await other.mget("js:a", "js:b", "js:none"), ["1", "2", null]);
  assert.equal(await client.incrby("js:a", 41), 42);
  assert.equal(await client.del("js:a", "js:b", "js:none"), 2);
}

async function binary(client, other) {
  const value = Buffer.from(Array.from({ length: 5000 }, (_, at) => at % 256));
  await client.set("js:binary", value);
  assert.ok(value.equals(await other.getBuffer("js:binary")));
}

async function pipelines(client, other) {
  const pipeline = client.pipeline();
  for (let number = 0; number < 500; number++) pipeline.set(`js:p:${number}`, number);
  const replies = await pipeline.exec();
  assert.ok(replies.every(([error, reply]) => error === null && reply === "OK"));
  const found = new Set();
  for await (const keys of other.scanStream({ match: "js:p:*", count: 100 })) {
    keys.forEach((key) => found.add(key));
  }
  assert.equal(found.size, 500);
}

async function transactions(client, other) {
  await client.set("js:n", 1);
  const replies = await client.multi().incr("js:n").get("js:n").exec();
  assert.deepEqual(replies, [[null, 2], [null, "2"]]);
  await client.watch("js:n");
  await other.incr("js:n");
  assert.equal(await client.multi().set("js:n", 0).exec(), null);
  assert.equal(await client.get("js:n"), "3");
}

async function errors(client) {
  await client.set("js:text", "abc");
  await assert.rejects(client.incr("js:text"), /value is not an integer or out of range/);
}

async function main() {
  const ports = process.argv.slice(2).map(Number);
  const clients = ports.map((port) => new Redis({ port, commandTimeout: 20000 }));
  for (const [index, client] of clients.entries()) {
    const other = clients[(index + 1) % clients.length];
    for (const part of [strings, binary, pipelines, transactions, errors]) {
      await part(client, other);
    }
  }
  await Promise.all(clients.map((client) => client.quit()));
  console.log(`ioredis ${version}: all as expected on ${ports.length} nodes`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
