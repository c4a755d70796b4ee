"""What a program with redis-py does every day, through every node: python client.py PORT..."""

import sys
import threading
import time

import redis


def connect(port, protocol=3):
    return redis.Redis(port=port, protocol=protocol, decode_responses=True, socket_timeout=20)


def strings(client, other):
    assert client.set("py:k", "v") is True
    assert other.get("py:k") == "v"
    assert client.set("py:k", "w", nx=True) is None
    assert client.set("py:k", "w", get=True) == "v"
    assert client.append("py:k", "xyz") == 4
    assert other.getrange("py:k", 1, 2) == "xy"
    assert client.setrange("py:k", 1, "!") == 4
    assert other.get("py:k") == "w!yz"
    assert client.mset({"py:a": 1, "py:b": 2}) is True
    assert other.mget("py:a", "py:b", "py:none") == ["1", "2", None]
    assert client.incrby("py:a", 41) == 42
    assert client.incrbyfloat("py:a", 0.5) == 42.5
    assert client.getdel("py:a") == "42.5"
    assert other.exists("py:a") == 0


def binary(port):
    raw = redis.Redis(port=port, protocol=3)
    value = bytes(range(256)) * 40
    assert raw.set(b"py:\x00\r\n\xff", value)
    assert raw.get(b"py:\x00\r\n\xff") == value


def bits(client):
    client.delete("py:bits")
    assert client.setbit("py:bits", 7, 1) == 0
    assert client.getbit("py:bits", 7) == 1
    assert client.bitcount("py:bits") == 1
    assert client.bitfield("py:bits").incrby("u8", 0, 9).execute() == [10]


def expiry(client, other):
    assert client.set("py:t", "v", px=400)
    assert 0 < other.pttl("py:t") <= 400
    assert client.persist("py:t") is True
    assert other.ttl("py:t") == -1
    assert client.pexpire("py:t", 300) is True
    deadline = time.monotonic() + 10
    while other.get("py:t") is not None:
        assert time.monotonic() < deadline, "the key does not expire"
        time.sleep(0.02)


def scan(client, other):
    with client.pipeline(transaction=False) as pipe:
        for number in range(500):
            pipe.set(f"py:scan:{number}", number)
        assert pipe.execute() == [True] * 500
    found = set(other.scan_iter(match="py:scan:*", count=50))
    assert found == {f"py:scan:{number}" for number in range(500)}
    assert client.delete(*found) == 500


def transactions(client, other):
    client.set("py:balance", 10)
    with client.pipeline() as pipe:
        pipe.watch("py:balance")
        other.incr("py:balance")
        pipe.multi()
        pipe.set("py:balance", 0)
        try:
            pipe.execute()
            raise AssertionError("a watched key was changed, and EXEC went through")
        except redis.WatchError:
            pass

    def spend(port):
        own = connect(port)
        for _ in range(20):
            own.transaction(lambda pipe: add_one(pipe), "py:balance")

    def add_one(pipe):
        current = int(pipe.get("py:balance"))
        pipe.multi()
        pipe.set("py:balance", current + 1)

    threads = [threading.Thread(target=spend, args=(port,)) for port in PORTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert int(client.get("py:balance")) == 11 + 20 * len(PORTS)


def errors(client):
    client.set("py:text", "abc")
    try:
        client.incr("py:text")
        raise AssertionError("INCR of a text went through")
    except redis.ResponseError as error:
        assert str(error) == "value is not an integer or out of range", error


def server(client):
    assert client.ping() is True
    assert client.echo("x") == "x"
    assert client.client_setname("py") is True
    assert client.client_getname() == "py"
    assert "redis_version" in client.info()
    assert isinstance(client.time()[0], int)
    assert client.dbsize() > 0
    assert "get" in client.command()


PORTS = [int(port) for port in sys.argv[1:]]

for index, port in enumerate(PORTS):
    for protocol in (3, 2):
        client = connect(port, protocol)
        other = connect(PORTS[(index + 1) % len(PORTS)], protocol)
        strings(client, other)
        binary(port)
        bits(client)
        expiry(client, other)
        scan(client, other)
        transactions(client, other)
        errors(client)
        server(client)
print(f"redis-py {redis.__version__}: all as expected on {len(PORTS)} nodes")
