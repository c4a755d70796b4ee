"""What a program with redis-py's RedisCluster does: python cluster.py [--load] PORT...

With --load it counts and appends until its input ends, prints a line when it begins, and then checks
that every write was done exactly once, without having seen an error.
"""

import sys
import threading
import time

import redis
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.driver_info import DriverInfo


def connect(port, protocol=3, **options):
    nodes = [ClusterNode("127.0.0.1", port)]
    return RedisCluster(
        startup_nodes=nodes, protocol=protocol, decode_responses=True, socket_timeout=20, **options
    )


def strings(client):
    for number in range(300):
        assert client.set(f"pc:{number}", number) is True
    for number in range(300):
        assert client.get(f"pc:{number}") == str(number)
    names = [f"pc:{number}" for number in range(300)]
    assert client.mget_nonatomic(names) == [str(number) for number in range(300)]
    assert client.mset_nonatomic({name: "again" for name in names})
    assert client.exists(*names) == 300
    assert client.touch(*names[:7]) == 7
    assert client.unlink(*names[:100]) == 100
    assert client.delete(*names) == 200


def pipelines(client):
    with client.pipeline() as pipe:
        for number in range(300):
            pipe.incrby(f"pc:p:{number}", number)
        assert pipe.execute() == list(range(300))
        for number in range(300):
            pipe.delete(f"pc:p:{number}")
        assert pipe.execute() == [1] * 300


def transactions(client):
    client.delete("pc:{t}n", "pc:{t}m")
    with client.pipeline(transaction=True) as pipe:
        pipe.incr("pc:{t}n")
        pipe.incrby("pc:{t}m", 5)
        assert pipe.execute() == [1, 5]
    try:
        client.mset({"pc:a": 1, "pc:b": 2})
        raise AssertionError("MSET of two slots went through")
    except redis.exceptions.RedisClusterException as error:
        assert "slot" in str(error).lower(), error
    client.delete("pc:{t}n", "pc:{t}m")


def size(client):
    return client.dbsize(target_nodes=RedisCluster.PRIMARIES)


def whole(client):
    """The nodes' parts are the whole, each key once."""
    for number in range(500):
        client.set(f"pc:w:{number}", number)
    expected = {f"pc:w:{number}" for number in range(500)}
    assert size(client) == 500, size(client)
    found = list(client.scan_iter(match="pc:w:*", count=37))
    assert len(found) == 500 and set(found) == expected
    assert set(client.keys("pc:w:*", target_nodes=RedisCluster.PRIMARIES)) == expected
    assert client.randomkey() is None or client.randomkey() in expected
    name = "pc:w:77"
    slot = client.keyslot(name)
    assert client.cluster_countkeysinslot(slot) == 1
    assert client.cluster_get_keys_in_slot(slot, 10) == [name]
    assert client.flushall()
    assert size(client) == 0


def replicas(port, protocol):
    client = connect(port, protocol, load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN)
    for number in range(100):
        assert client.set(f"pc:r:{number}", number) is True
        assert client.get(f"pc:r:{number}") == str(number), "a read after a write"
    assert client.delete(*[f"pc:r:{number}" for number in range(100)]) == 100


def server(client):
    assert client.ping(target_nodes=RedisCluster.ALL_NODES) is True
    assert client.cluster_info(target_nodes=RedisCluster.RANDOM)["cluster_state"] == "ok"
    primaries = client.get_primaries()
    assert primaries
    for node in primaries:
        assert len(client.cluster_myid(target_node=node)) == 40
    assert client.wait(1, 1000, target_nodes=RedisCluster.RANDOM) >= 0


def plain_ones_see_everything(ports):
    for port in ports:
        client = redis.Redis(port=port, decode_responses=True, driver_info=DriverInfo(name="plain"))
        client.set(f"pp:{port}", port)
        names = [f"pp:{port}" for port in ports]
        client.delete(*names)
        for name in names:
            client.set(name, 1)
        assert client.mget(names) == ["1"] * len(ports)
        assert client.dbsize() == len(ports)
        assert set(client.scan_iter()) == set(names)
        assert client.delete(*names) == len(ports)


def basic(ports):
    for port in ports:
        for protocol in (3, 2):
            client = connect(port, protocol)
            client.flushall()
            for part in (strings, pipelines, transactions, whole, server):
                part(client)
            replicas(port, protocol)
    plain_ones_see_everything(ports)
    print(f"redis-py {redis.__version__}: a cluster as expected by {len(ports)} nodes")


def load(ports):
    """Writers count up and append; nothing may fail, be lost, or be done twice."""
    stop = threading.Event()
    done = [0] * 8
    longest = [0.0] * 8
    failures = []

    def write(worker):
        client = connect(ports[worker % len(ports)])
        try:
            while not stop.is_set():
                turn = done[worker]
                begun = time.monotonic()
                key = f"load:{worker}:{turn % 50}"
                assert client.incr(key) == turn // 50 + 1, key
                text = f"{{load:{worker}:{turn % 50}}}text"
                assert client.append(text, "x") == turn // 50 + 1, text
                with client.pipeline(transaction=True) as pipe:
                    pipe.set(f"{{{key}}}ttl", turn, ex=600)
                    pipe.get(key)
                    assert pipe.execute() == ["OK", str(turn // 50 + 1)], key
                longest[worker] = max(longest[worker], time.monotonic() - begun)
                done[worker] += 1
        except BaseException as error:
            failures.append(f"worker {worker}, turn {done[worker]}: {error!r}")

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(len(done))]
    for thread in threads:
        thread.start()
    print("begun", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    client = connect(ports[0])
    for worker, turns in enumerate(done):
        assert turns > 0
        for place in range(min(turns, 50)):
            expected = (turns - place - 1) // 50 + 1
            key = f"load:{worker}:{place}"
            assert int(client.get(key)) == expected, key
            assert client.strlen(f"{{{key}}}text") == expected, key
    print(f"redis-py {redis.__version__}: {sum(done)} turns of a load, each done once; "
          f"longest {1000 * max(longest):.0f} ms")


if sys.argv[1] == "--load":
    load([int(port) for port in sys.argv[2:]])
else:
    basic([int(port) for port in sys.argv[1:]])
