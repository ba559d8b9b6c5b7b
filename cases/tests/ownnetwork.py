# SPDX-License-Identifier: Apache-2.0
"""A network of the test's own, and System V objects (of which a machine has 4096 segments for all): a namespace with nothing but its loopback interface, so that tests which
run side by side with fixed ports (a list of ports for rpcssd, SIPp's 5060) can't meet, and captures show
only what the test sent. Needs root; without it the test shares the host's network. Start: enter, before any thread
or socket is made."""
import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWNET = 0x40000000
CLONE_NEWIPC = 0x08000000
SIOCSIFFLAGS = 0x8914  # netdevice(7)
IFF_UP_LOOPBACK_RUNNING = 0x1 | 0x8 | 0x40
entered = False


def enter():
    """Whether the process is in a network of its own now."""
    global entered
    entered = entered or new_namespace()
    return entered


def new_namespace():
    host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        libc.unshare(CLONE_NEWIPC)
        if libc.unshare(CLONE_NEWNET):
            return False
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP_LOOPBACK_RUNNING))
        except OSError:
            libc.setns(host, CLONE_NEWNET)
            return False
        return True
    finally:
        os.close(host)


def give_out_ports(first, last):
    """From which of them a program gets one that asks for any; where the network is the test's own."""
    if entered:
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as file:
            file.write(f"{first} {last}")
