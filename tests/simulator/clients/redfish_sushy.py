"""What sushy does with a BMC: one JSON object. Runs in the clients' environment."""

import json
import sys
import time
import warnings

import sushy  # type: ignore[import-not-found]  # lives in the other one

warnings.filterwarnings("ignore")
url, user, password, serial = sys.argv[1:5]

root = sushy.Sushy(url, username=user, password=password, verify=False)
system = root.get_system_collection().get_members()[0]
told: dict[str, object] = {
    "auth": type(root._auth).__name__,
    "serial": system.serial_number,
    "sku": system.sku,
    "manufacturer": system.manufacturer,
    "power": system.power_state.value,
}


def until(power: str) -> str:
    for _ in range(200):
        system.refresh(force=True)
        if system.power_state.value == power:
            break
        time.sleep(0.05)
    return str(system.power_state.value)


system.set_system_boot_options(
    target=sushy.BOOT_SOURCE_TARGET_PXE, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE
)
system.refresh(force=True)
told["boot"] = [system.boot["target"].value, system.boot["enabled"].value]

name, value = next((n, v) for n, v in system.bios.attributes.items() if isinstance(v, str))
system.bios.set_attribute(name, "Changed")
system.bios.refresh(force=True)
told["bios"] = [name, value, system.bios.attributes[name], dict(system.bios.pending_attributes)]

system.reset_system(sushy.RESET_FORCE_OFF)
told["off"] = until("Off")
system.reset_system(sushy.RESET_ON)
told["on"] = until("On")
system.bios.refresh(force=True)
told["bios_after"] = system.bios.attributes[name]
told["boot_after"] = system.boot["enabled"].value

chassis = root.get_chassis_collection().get_members()[0]
told["temperatures"] = [t.reading_celsius for t in chassis.thermal.temperatures]

manager = root.get_manager_collection().get_members()[0]
told["bmc"] = manager.firmware_version
drive = next(
    m for m in manager.virtual_media.get_members() if sushy.VIRTUAL_MEDIA_CD in m.media_types
)
drive.insert_media("http://images.test/x.iso")
drive.refresh(force=True)
told["inserted"] = [drive.inserted, drive.image]
drive.eject_media()
drive.refresh(force=True)
told["ejected"] = drive.inserted

service = root.get_update_service()
rows = service.firmware_inventory.get_members()
told["firmware"] = {row.identity: row.version for row in rows}
first = sys.argv[5]
task = service.simple_update(f"http://images.test/{first}_77.bin").get_task()
told["task_began"] = task.task_state.value
for _ in range(300):
    if task.task_state.value != "Running":
        break
    time.sleep(0.1)
    task.refresh(force=True)
told["task"] = [task.task_state.value, task.percent_complete]
told["firmware_after"] = {
    row.identity: row.version for row in root.get_update_service().firmware_inventory.get_members()
}
print(json.dumps(told, default=str))
