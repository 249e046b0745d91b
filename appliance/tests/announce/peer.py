"""A neighbour with python-zeroconf, on one address.

find ADDRESS SECONDS       what is announced, a JSON list
watch ADDRESS SECONDS      what comes and goes, a JSON object a line
hold ADDRESS NAME SECONDS  announces itself as NAME.local and as a service of that name, and says "held"
"""

import json
import socket
import sys
import time

from zeroconf import ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

SERVICES = ["_https._tcp.local.", "_narrowboat._tcp.local."]


def find(address, seconds):
    zeroconf = Zeroconf(interfaces=[address])
    names = set()

    def changed(zeroconf, service_type, name, state_change):
        if state_change is ServiceStateChange.Removed:
            names.discard((service_type, name))
        else:
            names.add((service_type, name))

    ServiceBrowser(zeroconf, SERVICES, handlers=[changed])
    time.sleep(float(seconds))
    found = []
    for service_type, name in sorted(names):
        info = zeroconf.get_service_info(service_type, name, timeout=2000)
        if info:
            text = {key.decode(): value.decode() for key, value in info.properties.items() if value is not None}
            found.append({"name": name, "type": service_type, "host": info.server, "port": info.port, "addresses": sorted(info.parsed_addresses()), "text": text})
    print(json.dumps(found), flush=True)
    zeroconf.close()


def watch(address, seconds):
    zeroconf = Zeroconf(interfaces=[address])

    def changed(zeroconf, service_type, name, state_change):
        print(json.dumps({"name": name, "state": state_change.name}), flush=True)

    ServiceBrowser(zeroconf, SERVICES, handlers=[changed])
    time.sleep(float(seconds))
    zeroconf.close()


def hold(address, name, seconds):
    zeroconf = Zeroconf(interfaces=[address])
    service = ServiceInfo(SERVICES[0], f"{name}.{SERVICES[0]}", addresses=[socket.inet_aton(address)], port=80, server=f"{name}.local.")
    zeroconf.register_service(service)
    print("held", flush=True)
    time.sleep(float(seconds))
    zeroconf.close()


{"find": find, "watch": watch, "hold": hold}[sys.argv[1]](*sys.argv[2:])
