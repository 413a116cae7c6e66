"""The Redfish resources of a simulated BMC: a path in, a JSON object out. Names are DSP8010's.

What may be read without a login (DSP0266 §13.3.2: the service root) is in `OPEN`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable

from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_parts import Task
from control_plane.simulator.bmc_profiles import PowerStyle
from control_plane.simulator.bmc_readings import (
    Resource,
    environment,
    power,
    readings,
    sensor,
    thermal,
    typed,
)
from control_plane.simulator.machine import seed_of

ROOT = "/redfish/v1"
OPEN = frozenset({"/redfish", ROOT, f"{ROOT}/$metadata", f"{ROOT}/odata"})


class Tree:
    """Everything that can be read, of one BMC."""

    def __init__(self, bmc: Bmc) -> None:
        self._bmc = bmc
        profile = bmc.profile
        self.system = f"{ROOT}/Systems/{profile.system}"
        self.chassis = f"{ROOT}/Chassis/{profile.chassis}"
        self.manager = f"{ROOT}/Managers/{profile.manager}"
        self.settings = f"{self.system}/Bios/{profile.bios_settings}"
        self.sessions = f"{ROOT}/SessionService/Sessions"
        self.inventory = f"{ROOT}/UpdateService/FirmwareInventory"
        self.tasks = f"{ROOT}/TaskService/Tasks"
        media = self.system if profile.media_at_system else self.manager
        self.media = f"{media}/VirtualMedia"
        log = self.system if profile.log_at_system else self.manager
        self.logs = f"{log}/LogServices"
        self.log = f"{self.logs}/Sel"
        self._fixed: dict[str, Callable[[], Resource]] = {
            "/redfish": lambda: {"v1": f"{ROOT}/"},
            ROOT: self._root,
            f"{ROOT}/odata": lambda: {"@odata.context": f"{ROOT}/$metadata", "value": []},
            f"{ROOT}/SessionService": self._session_service,
            self.sessions: lambda: _collection(
                self.sessions, "Session", (s.id for s in bmc.sessions.values())
            ),
            f"{ROOT}/Systems": lambda: _collection(
                f"{ROOT}/Systems", "ComputerSystem", (*profile.boards, profile.system)
            ),
            f"{ROOT}/Chassis": lambda: _collection(f"{ROOT}/Chassis", "Chassis", [profile.chassis]),
            f"{ROOT}/Managers": lambda: _collection(
                f"{ROOT}/Managers", "Manager", [profile.manager]
            ),
            self.system: self._system,
            f"{self.system}/ResetActionInfo": self._reset_info,
            f"{self.system}/Bios": self._bios,
            self.settings: self._bios_settings,
            self.chassis: self._chassis,
            self.manager: self._manager,
            self.media: lambda: _collection(self.media, "VirtualMedia", ["Floppy", "CD"]),
            f"{self.media}/CD": self._cd,
            f"{self.media}/Floppy": self._floppy,
            self.logs: lambda: _collection(self.logs, "LogService", ["Sel"]),
            self.log: self._log_service,
            f"{self.log}/Entries": self._entries,
            f"{ROOT}/UpdateService": self._update_service,
            self.inventory: lambda: _collection(self.inventory, "SoftwareInventory", bmc.firmware),
            f"{ROOT}/TaskService": self._task_service,
            self.tasks: lambda: _collection(self.tasks, "Task", bmc.tasks),
        }
        self._fixed |= {
            f"{ROOT}/Systems/{board}": lambda board=board: self._board(board)  # type: ignore[misc]
            for board in profile.boards
        }
        if profile.power is PowerStyle.ENVIRONMENT:
            self._fixed[f"{self.chassis}/EnvironmentMetrics"] = lambda: environment(bmc)
        else:
            self._fixed[f"{self.chassis}/Power"] = lambda: power(bmc, self.chassis)
        if profile.sensors:
            self._fixed[f"{self.chassis}/Sensors"] = lambda: _collection(
                f"{self.chassis}/Sensors", "Sensor", (name for name, *_ in readings(bmc))
            )
            self._fixed |= {
                f"{self.chassis}/Sensors/{name}": lambda name=name: sensor(bmc, name)  # type: ignore[misc]
                for name, *_ in readings(bmc)
            }
        else:
            self._fixed[f"{self.chassis}/Thermal"] = lambda: thermal(bmc, self.chassis)

    def at(self, path: str) -> Resource | None:
        """The resource at a path; `None` where there is none."""
        make = self._fixed.get(path)
        if make is not None:
            return {"@odata.id": path, **make()}
        folder, _, name = path.rpartition("/")
        bmc = self._bmc
        if folder == self.inventory and name in bmc.firmware:
            return {"@odata.id": path, **self._firmware(name)}
        if folder == self.tasks and name in bmc.tasks:
            return {"@odata.id": path, **task_body(bmc.tasks[name])}
        if folder == self.sessions and name in {s.id for s in bmc.sessions.values()}:
            body = typed("Session", "v1_3_0", name, "Session")
            return {"@odata.id": path, **body, "UserName": bmc.user}
        return None

    def etag(self, path: str) -> str:
        """Of what stands there now."""
        return f'"{seed_of(str(self.at(path))):016x}"'

    # -- the service ------------------------------------------------------------------------------

    def _root(self) -> Resource:
        vendor = self._bmc.profile.vendor
        return {
            **typed("ServiceRoot", "v1_9_0", "RootService", "Root Service"),
            **({} if vendor is None else {"Vendor": vendor}),
            "RedfishVersion": "1.15.0",
            "UUID": self._uuid("bmc"),
            "Systems": _link(f"{ROOT}/Systems"),
            "Chassis": _link(f"{ROOT}/Chassis"),
            "Managers": _link(f"{ROOT}/Managers"),
            "SessionService": _link(f"{ROOT}/SessionService"),
            "UpdateService": _link(f"{ROOT}/UpdateService"),
            "Tasks": _link(f"{ROOT}/TaskService"),
            "Links": {"Sessions": _link(self.sessions)},
        }

    def _session_service(self) -> Resource:
        return {
            **typed("SessionService", "v1_1_8", "SessionService", "Session Service"),
            "ServiceEnabled": True,
            "SessionTimeout": int(self._bmc.profile.idle_limit_s),
            "Sessions": _link(self.sessions),
        }

    def _task_service(self) -> Resource:
        return {
            **typed("TaskService", "v1_2_0", "TaskService", "Task Service"),
            "ServiceEnabled": True,
            "Tasks": _link(self.tasks),
        }

    def _update_service(self) -> Resource:
        action = f"{ROOT}/UpdateService/Actions/UpdateService.SimpleUpdate"
        return {
            **typed("UpdateService", "v1_8_0", "UpdateService", "Update Service"),
            "ServiceEnabled": True,
            "FirmwareInventory": _link(self.inventory),
            "Actions": {
                "#UpdateService.SimpleUpdate": {
                    "target": action,
                    "TransferProtocol@Redfish.AllowableValues": ["HTTP", "HTTPS"],
                }
            },
        }

    def _firmware(self, id_: str) -> Resource:
        return {
            **typed("SoftwareInventory", "v1_4_0", id_, id_),
            "Version": self._bmc.firmware[id_],
            "Updateable": not id_.startswith("Previous"),
            "Status": {"State": "Enabled", "Health": "OK"},
        }

    # -- the host ---------------------------------------------------------------------------------

    @property
    def _health(self) -> Resource:
        return {"State": "Enabled", "Health": "OK", "HealthRollup": "OK"}

    def _uuid(self, of: str) -> str:
        text = f"{seed_of(f'{self._bmc.chassis.serial}/{of}'):016x}" * 2
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _system(self) -> Resource:
        bmc, profile = self._bmc, self._bmc.profile
        serial = bmc.faults.serial or bmc.chassis.serial
        board = f"CN{seed_of(serial) % 10**12:012d}"
        reset: Resource = {"target": f"{self.system}/Actions/ComputerSystem.Reset"}
        if profile.resets_told_by == "values":
            reset["ResetType@Redfish.AllowableValues"] = list(profile.resets)
        elif profile.resets_told_by == "action_info":
            reset["@Redfish.ActionInfo"] = f"{self.system}/ResetActionInfo"
        light: Resource = {"LocationIndicatorActive": bmc.is_lit}
        if profile.light == "IndicatorLED":
            light = {"IndicatorLED": "Lit" if bmc.is_lit else "Off"}
        media = {"VirtualMedia": _link(self.media)} if profile.media_at_system else {}
        logs = {"LogServices": _link(self.logs)} if profile.log_at_system else {}
        boot = bmc.boot_override
        return {
            **typed("ComputerSystem", "v1_16_0", profile.system, "System"),
            "SystemType": "Physical",
            "Manufacturer": profile.manufacturer,
            "Model": profile.model,
            "SerialNumber": serial if profile.serial_in == "SerialNumber" else board,
            "SKU": serial if profile.serial_in == "SKU" else profile.model,
            "UUID": bmc.chassis.board,
            "HostName": "",
            "PowerState": bmc.faults.shows_power or bmc.power,
            "BiosVersion": bmc.firmware[profile.bios_firmware],
            "Status": self._health,
            **light,
            "BootProgress": {"LastState": bmc.progress},
            "Boot": {
                "BootSourceOverrideTarget": boot.target,
                "BootSourceOverrideEnabled": boot.enabled,
                "BootSourceOverrideMode": boot.mode,
                "BootSourceOverrideTarget@Redfish.AllowableValues": [
                    "None", "Pxe", "Hdd", "Cd", "Usb", "UefiHttp", "BiosSetup",
                ],
            },
            "Bios": _link(f"{self.system}/Bios"),
            **media,
            **logs,
            "Links": {"Chassis": [_link(self.chassis)], "ManagedBy": [_link(self.manager)]},
            "Actions": {"#ComputerSystem.Reset": reset},
        }  # fmt: skip

    def _reset_info(self) -> Resource:
        values = list(self._bmc.profile.resets)
        return {
            **typed("ActionInfo", "v1_1_2", "ResetActionInfo", "Reset Action Info"),
            "Parameters": [
                {
                    "Name": "ResetType",
                    "Required": True,
                    "DataType": "String",
                    "AllowableValues": values,
                }
            ],
        }

    def _board(self, board: str) -> Resource:
        return {
            **typed("ComputerSystem", "v1_16_0", board, board),
            "SystemType": "Physical",
            "Manufacturer": "NVIDIA",
            "SerialNumber": f"16{seed_of(f'{self._bmc.chassis.serial}/{board}') % 10**11:011d}",
            "PowerState": self._bmc.power,
            "Status": self._health,
            "Actions": {
                "#ComputerSystem.Reset": {
                    "target": f"{ROOT}/Systems/{board}/Actions/ComputerSystem.Reset",
                    "ResetType@Redfish.AllowableValues": ["ForceRestart"],
                }
            },
        }

    def _bios(self) -> Resource:
        bmc = self._bmc
        tells = {
            "@Redfish.Settings": {
                "@odata.type": "#Settings.v1_3_5.Settings",
                "SettingsObject": _link(self.settings),
                "SupportedApplyTimes": ["OnReset"],
                "Messages": [],
            }
        }
        return {
            **typed("Bios", "v1_2_0", "Bios", "BIOS Configuration"),
            **(tells if bmc.profile.tells_settings else {}),
            "Attributes": dict(bmc.bios),
            "Actions": {},
        }

    def _bios_settings(self) -> Resource:
        return {
            **typed("Bios", "v1_2_0", "Settings", "BIOS Configuration Pending Settings"),
            "Attributes": dict(self._bmc.bios_pending),
        }

    # -- readings ---------------------------------------------------------------------------------

    def _chassis(self) -> Resource:
        profile = self._bmc.profile
        style = "EnvironmentMetrics" if profile.power is PowerStyle.ENVIRONMENT else "Power"
        readings = "Sensors" if profile.sensors else "Thermal"
        return {
            **typed("Chassis", "v1_19_0", profile.chassis, "Chassis"),
            "ChassisType": "RackMount",
            "SerialNumber": self._bmc.chassis.serial,
            "PowerState": self._bmc.power if self._bmc.power in {"On", "Off"} else "On",
            "Status": self._health,
            style: _link(f"{self.chassis}/{style}"),
            readings: _link(f"{self.chassis}/{readings}"),
            "Links": {"ComputerSystems": [_link(self.system)], "ManagedBy": [_link(self.manager)]},
        }

    # -- the BMC itself ---------------------------------------------------------------------------

    def _manager(self) -> Resource:
        bmc, profile = self._bmc, self._bmc.profile
        now = dt.datetime.fromtimestamp(bmc.wall_s, dt.UTC)
        media = {} if profile.media_at_system else {"VirtualMedia": _link(self.media)}
        logs = {} if profile.log_at_system else {"LogServices": _link(self.logs)}
        return {
            **typed("Manager", "v1_15_0", profile.manager, "Manager"),
            "ManagerType": "BMC",
            "FirmwareVersion": bmc.firmware[profile.bmc_firmware],
            "UUID": self._uuid("bmc"),
            "DateTime": now.isoformat(timespec="seconds"),
            "PowerState": "On",
            "Status": self._health,
            **media,
            **logs,
            "Links": {"ManagerForServers": [_link(self.system)]},
            "Actions": {},
        }

    def _cd(self) -> Resource:
        image = self._bmc.image
        at = f"{self.media}/CD"
        return {
            **typed("VirtualMedia", "v1_5_0", "CD", "Virtual CD"),
            "MediaTypes": ["CD", "DVD"],
            "Image": image,
            "ImageName": None if image is None else image.rpartition("/")[2],
            "Inserted": image is not None,
            "WriteProtected": True,
            "ConnectedVia": "NotConnected" if image is None else "URI",
            "Actions": {
                "#VirtualMedia.InsertMedia": {"target": f"{at}/Actions/VirtualMedia.InsertMedia"},
                "#VirtualMedia.EjectMedia": {"target": f"{at}/Actions/VirtualMedia.EjectMedia"},
            },
        }

    def _floppy(self) -> Resource:
        body = typed("VirtualMedia", "v1_5_0", "Floppy", "Virtual Floppy")
        return {**body, "MediaTypes": ["Floppy", "USBStick"], "Inserted": False, "Image": None}

    def _log_service(self) -> Resource:
        return {
            **typed("LogService", "v1_3_0", "Sel", "System Event Log"),
            "LogEntryType": "SEL",
            "Entries": _link(f"{self.log}/Entries"),
        }

    def _entries(self) -> Resource:
        rows = [
            {
                "@odata.id": f"{self.log}/Entries/{entry.id}",
                "@odata.type": "#LogEntry.v1_12_0.LogEntry",
                "Id": entry.id,
                "Name": f"Log Entry {entry.id}",
                "EntryType": "SEL",
                "Severity": entry.severity,
                "Created": dt.datetime.fromtimestamp(entry.at_s, dt.UTC).isoformat(
                    timespec="seconds"
                ),
                "Message": entry.message,
            }
            for entry in self._bmc.log
        ]
        return {
            "@odata.type": "#LogEntryCollection.LogEntryCollection",
            "Name": "Log Entries",
            "Members@odata.count": len(rows),
            "Members": rows,
        }


def task_body(task: Task) -> Resource:
    """A task as its resource and its monitor show it."""
    return {
        **typed("Task", "v1_6_0", task.id, f"Task {task.id}"),
        "TaskState": task.state,
        "TaskStatus": task.status,
        "PercentComplete": task.percent,
        "TaskMonitor": f"{ROOT}/TaskService/TaskMonitors/{task.id}",
        "Messages": [
            {"MessageId": "Update.1.0.Progress", "Message": message} for message in task.messages
        ],
    }


def _link(path: str) -> Resource:
    return {"@odata.id": path}


def _collection(path: str, kind: str, ids: Iterable[str]) -> Resource:
    members = [_link(f"{path}/{id_}") for id_ in ids]
    return {
        "@odata.type": f"#{kind}Collection.{kind}Collection",
        "Name": f"{kind} Collection",
        "Members@odata.count": len(members),
        "Members": members,
    }
