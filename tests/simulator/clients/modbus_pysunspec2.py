"""What SunSpec's own client finds in meters, by scanning for models: one JSON object."""

import json
import sys

import sunspec2.modbus.client as sunspec  # type: ignore[import-not-found]  # in the other one

host, own, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
told: dict[str, object] = {}
for name, address, unit, model in (("m-4", host, 4, 203), ("m-0", own, 1, 213)):
    device = sunspec.SunSpecModbusClientDeviceTCP(slave_id=unit, ipaddr=address, ipport=port)
    device.scan()
    block = device.models[model][0]
    block.read()
    told[name] = block.W.cvalue
    told[f"{name} phase"] = block.WphA.cvalue
    told[f"{name} Wh"] = block.TotWhImp.cvalue
    told[f"{name} maker"] = device.common[0].Mn.value
    device.close()
print(json.dumps(told))
