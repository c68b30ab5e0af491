#!/usr/bin/python3 -B
"""Clients of a gateway that comes and goes: they connect to its API, its /metrics and its key sockets again and again,
ask whole questions, half ones and none, and leave some connections open. They carry on until they are killed.

usage: stopload.py RUN_DIR METRICS_PORT
"""

import random
import socket
import sys
import threading
import time

from keywire import GETSA, HEADER, NETLINK, NLM_DUMP, NLM_REQUEST, SADB_DUMP, SADB_REGISTER, SATYPE_ESP

FLOW = b'{"mode":"add","atomic":true,"rules":[]}'
REQUESTS = (
    b"",
    b"GET /v1/status HTTP/1.1\r\nHost: gw\r\n\r\n",
    b"GET /v1/sa HTTP/1.1\r\nHost: gw\r\n\r\nGET /v1/flow HTTP/1.1\r\nHost: gw\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: gw\r\n\r\n",
    b"GET /v1/events HTTP/1.1\r\nHost: gw\r\n\r\n",
    b"GET /v1/sta",
    b"POST /v1/load HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\n\r\n%s" % (len(FLOW), FLOW),
    b"POST /v1/load HTTP/1.1\r\nHost: gw\r\nContent-Length: 999999\r\n\r\n{",
    b"POST /v1/reload HTTP/1.1\r\nHost: gw\r\nContent-Length: 0\r\n\r\n",
)


def http(connect, choose):
    """Up to eight connections at a time, each with one of the requests."""
    held = []
    while True:
        try:
            one = connect()
        except OSError:
            held.clear()
            time.sleep(0.002)
            continue
        try:
            one.sendall(choose.choice(REQUESTS))
            if choose.random() < 0.5:
                one.settimeout(0.02)
                one.recv(65536)
        except OSError:
            pass
        if choose.random() < 0.3:
            held.append(one)
        if len(held) > 8:
            held.pop(0)


def keys(run_dir, choose):
    """Dumps, registrations, and connections that say nothing."""
    dump = NETLINK.pack(NETLINK.size, GETSA, NLM_REQUEST | NLM_DUMP, 1, 0)
    questions = {"xfrm.sock": (dump, dump, b""),
                 "pfkey.sock": tuple(HEADER.pack(2, kind, 0, SATYPE_ESP, HEADER.size // 8, 0, 1, 1)
                                     for kind in (SADB_DUMP, SADB_REGISTER)) + (b"",)}
    while True:
        name = choose.choice(list(questions))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
                one.settimeout(0.02)
                one.connect(f"{run_dir}/{name}")
                one.send(choose.choice(questions[name]))
                one.recv(65536)
        except OSError:
            time.sleep(0.002)


def main():
    run_dir, port = sys.argv[1], int(sys.argv[2])

    def api():
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.settimeout(0.2)
        one.connect(f"{run_dir}/gwctl.sock")
        return one

    def metrics():
        return socket.create_connection(("127.0.0.1", port), timeout=0.2)

    work = [(http, api), (http, api), (http, metrics), (keys, run_dir)]
    threads = [threading.Thread(target=target, args=(argument, random.Random()), daemon=True)
               for target, argument in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
