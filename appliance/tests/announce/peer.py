"""A neighbour with python-zeroconf, on one address.

find ADDRESS SECONDS       what is announced, a JSON list
"""

import json
import sys
import time

from zeroconf import ServiceBrowser, ServiceStateChange, Zeroconf

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


{"find": find}[sys.argv[1]](*sys.argv[2:])
