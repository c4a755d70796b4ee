// What a program with ioredis' Cluster does: node cluster.js [--load] PORT...
//
// With --load it counts up until its input ends, prints a line when it begins, and then checks that
// every write was done exactly once, without having seen an error.

const assert = require("node:assert/strict");
const Redis = require("ioredis");
const { version } = require("ioredis/package.json");

const connect = (port, options = {}) =>
  new Redis.Cluster([{ host: "127.0.0.1", port }], {
    redisOptions: { commandTimeout: 20000 },
    ...options,
  });

async function strings(client) {
  const numbers = Array.from({ length: 300 }, (_, at) => at);
  await Promise.all(numbers.map((number) => client.set(`jc:${number}`, number)));
  const found = await Promise.all(numbers.map((number) => client.get(`jc:${number}`)));
  assert.deepEqual(found, numbers.map(String));
  await client.mset({ "{jc}a": 1, "{jc}b": 2 });
  assert.deepEqual(await client.mget("{jc}a", "{jc}b", "{jc}c"), ["1", "2", null]);
  const deleted = await Promise.all(numbers.map((number) => client.del(`jc:${number}`)));
  assert.ok(deleted.every((count) => count === 1));
  await client.del("{jc}a", "{jc}b");
}

async function pipelines(client) {
  const pipeline = client.pipeline();
  for (let number = 0; number < 200; number++) pipeline.set(`{jc:p}${number}`, number);
  const replies = await pipeline.exec();
  assert.ok(replies.every(([error, reply]) => error === null && reply === "OK"));
  for (let number = 0; number < 200; number++) await client.unlink(`{jc:p}${number}`);
}

async function transactions(client) {
  await client.set("{jc}n", 1);
  const replies = await client.multi().incr("{jc}n").get("{jc}n").exec();
  assert.deepEqual(replies, [[null, 2], [null, "2"]]);
  if ((await client.info("cluster")).includes("cluster_enabled:1")) {
    await assert.rejects(client.mset({ "jc:a": 1, "jc:b": 2, "jc:c": 3 }), /CROSSSLOT/);
  }
  await client.del("{jc}n");
}

async function whole(client) {
  for (let number = 0; number < 300; number++) await client.set(`jc:w:${number}`, number);
  const found = [];
  let size = 0;
  for (const node of client.nodes("master")) {
    size += await node.dbsize();
    for await (const keys of node.scanStream({ match: "jc:w:*", count: 50 })) found.push(...keys);
  }
  assert.equal(size, 300);
  assert.equal(found.length, 300);
  assert.equal(new Set(found).size, 300);
  await Promise.all(client.nodes("master").map((node) => node.flushall()));
  for (let number = 0; number < 300; number += 50) {
    assert.equal(await client.get(`jc:w:${number}`), null);
  }
}

async function replicas(port) {
  const client = connect(port, { scaleReads: "slave" });
  for (let number = 0; number < 100; number++) {
    await client.set(`jc:r:${number}`, number);
    assert.equal(await client.get(`jc:r:${number}`), String(number), "a read after a write");
    await client.del(`jc:r:${number}`);
  }
  await client.quit();
}

async function basic(ports) {
  for (const port of ports) {
    const client = connect(port);
    for (const part of [strings, pipelines, transactions, whole]) await part(client);
    await client.quit();
    await replicas(port);
  }
  console.log(`ioredis ${version}: a cluster as expected by ${ports.length} nodes`);
}

async function load(ports) {
  let stop = false;
  const done = Array(8).fill(0);
  let longest = 0;
  const write = async (worker) => {
    const client = connect(ports[worker % ports.length]);
    while (!stop) {
      const turn = done[worker];
      const begun = performance.now();
      const key = `jl:${worker}:${turn % 50}`;
      const expected = Math.floor(turn / 50) + 1;
      assert.equal(await client.incr(key), expected, key);
      assert.equal(await client.append(`{${key}}text`, "x"), expected, key);
      const replies = await client.multi().set(`{${key}}ttl`, turn, "EX", 600).get(key).exec();
      assert.deepEqual(replies, [[null, "OK"], [null, String(expected)]]);
      longest = Math.max(longest, performance.now() - begun);
      done[worker]++;
    }
    await client.quit();
  };
  const writers = done.map((_, worker) => write(worker));
  console.log("begun");
  process.stdin.resume();
  process.stdin.on("end", () => (stop = true));
  await Promise.all(writers);
  const client = connect(ports[0]);
  for (const [worker, turns] of done.entries()) {
    assert.ok(turns > 0);
    for (let place = 0; place < Math.min(turns, 50); place++) {
      const expected = Math.floor((turns - place - 1) / 50) + 1;
      assert.equal(await client.get(`jl:${worker}:${place}`), String(expected));
      assert.equal(await client.strlen(`{jl:${worker}:${place}}text`), expected);
    }
  }
  await client.quit();
  const all = done.reduce((sum, turns) => sum + turns, 0);
  const ms = Math.round(longest);
  console.log(`ioredis ${version}: ${all} turns of a load, each done once; longest ${ms} ms`);
}

const loads = process.argv[2] === "--load";
const ports = process.argv.slice(loads ? 3 : 2).map(Number);
(loads ? load(ports) : basic(ports)).catch((error) => {
  console.error(error);
  process.exit(1);
});
