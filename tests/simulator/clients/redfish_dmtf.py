"""What DMTF's own client does with a BMC: one JSON object. Runs in the clients' environment."""

import json
import sys
import time
import warnings

import redfish  # type: ignore[import-not-found]  # lives in the other one

warnings.filterwarnings("ignore")
url, user, password, _, first = sys.argv[1:6]

client = redfish.redfish_client(base_url=url, username=user, password=password)
client.login(auth="session")
told: dict[str, object] = {"session": bool(client.get_session_key())}
root = client.get("/redfish/v1/").dict
path = client.get(root["Systems"]["@odata.id"]).dict["Members"][-1]["@odata.id"]
system = client.get(path).dict
told["serial"], told["sku"], told["power"] = (
    system["SerialNumber"],
    system["SKU"],
    system["PowerState"],
)
reset = system["Actions"]["#ComputerSystem.Reset"]["target"]


def until(power: str) -> str:
    now = ""
    for _ in range(200):
        now = client.get(path).dict["PowerState"]
        if now == power:
            break
        time.sleep(0.05)
    return now


told["off_status"] = client.post(reset, body={"ResetType": "ForceOff"}).status
told["off"] = until("Off")
told["on_status"] = client.post(reset, body={"ResetType": "On"}).status
told["on"] = until("On")
told["nonsense"] = client.post(reset, body={"ResetType": "Explode"}).status

bios = client.get(system["Bios"]["@odata.id"]).dict
name = next(n for n, v in bios["Attributes"].items() if isinstance(v, str))
settings = bios["@Redfish.Settings"]["SettingsObject"]["@odata.id"]
told["bios_status"] = client.patch(settings, body={"Attributes": {name: "Changed"}}).status
told["pending"] = client.get(settings).dict["Attributes"]

chassis = client.get(system["Links"]["Chassis"][0]["@odata.id"]).dict
told["thermal"] = len(client.get(chassis["Thermal"]["@odata.id"]).dict["Temperatures"])
told["watts"] = client.get(chassis["Power"]["@odata.id"]).dict["PowerControl"][0][
    "PowerConsumedWatts"
]

service = client.get(root["UpdateService"]["@odata.id"]).dict
update = service["Actions"]["#UpdateService.SimpleUpdate"]["target"]
answer = client.post(update, body={"ImageURI": f"http://images.test/{first}_77.bin"})
told["update_status"], told["processing"] = answer.status, answer.is_processing
while answer.is_processing:
    time.sleep(0.1)
    answer = answer.monitor(client)
told["task"] = answer.dict["TaskState"]
inventory = client.get(service["FirmwareInventory"]["@odata.id"]).dict
rows = [client.get(m["@odata.id"]).dict for m in inventory["Members"]]
told["firmware_after"] = {row["Id"]: row["Version"] for row in rows}
client.logout()
print(json.dumps(told))
