"""What pyModbusTCP reads of meters: one JSON object. Runs in the clients' environment."""

import json
import sys

from pyModbusTCP.client import ModbusClient  # type: ignore[import-not-found]  # in the other one
from pyModbusTCP.utils import (  # type: ignore[import-not-found]
    decode_ieee,
    get_2comp,
    word_list_to_long,
)

host, own, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
told: dict[str, object] = {}


def client(unit: int, address: str = host) -> ModbusClient:
    return ModbusClient(host=address, port=port, unit_id=unit, auto_open=True, timeout=5.0)


def floats(words: list[int] | None) -> float:
    assert words, "no answer"
    return float(decode_ieee(word_list_to_long(words)[0]))


janitza = client(1)
told["m-1"] = floats(janitza.read_holding_registers(19026, 2))
told["m-2"] = floats(client(2).read_input_registers(52, 2))
told["m-3"] = 1000.0 * floats(client(3).read_holding_registers(3059, 2))
whole = client(3).read_holding_registers(3203, 4)
told["m-3 Wh"] = word_list_to_long(whole, long_long=True)[0]
sunspec = client(4)
block = sunspec.read_holding_registers(40069, 56)
told["m-4 id"] = block[0]
told["m-4"] = get_2comp(block[18]) * 10.0 ** get_2comp(block[22])
told["m-0"] = floats(client(1, own).read_holding_registers(40070 + 28, 2))
janitza.read_holding_registers(5, 2)
told["wrong registers"] = janitza.last_except
janitza.read_input_registers(19026, 2)
told["wrong function"] = janitza.last_except
stranger = client(99)
stranger.read_holding_registers(19026, 2)
told["no such unit"] = stranger.last_except
writer = client(1)
writer.write_single_register(19026, 7)
told["write"] = writer.last_except
print(json.dumps(told))
