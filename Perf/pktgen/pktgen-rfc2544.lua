-- RFC 2544 section 26.1 with Pktgen-DPDK: port 0 through both gateways to port 1. Not run: see README.md.
package.path = package.path .. ";?.lua;test/?.lua;app/?.lua;../?.lua"
require "Pktgen"

local gateway = os.getenv("GATEWAY_MAC") or "02:00:00:00:00:01"  -- gateway A's lan port
local seconds = tonumber(os.getenv("SECONDS_A_TRIAL") or "60")
local sizes = { 64, 128, 256, 512, 1024, 1280, 1424 }             -- IP packets

local function trial(size, rate)
  pktgen.set("0", "size", size + 18)                              -- Ethernet header and CRC
  pktgen.set("0", "rate", rate)
  pktgen.clr()
  pktgen.delay(1000)
  pktgen.start("0")
  pktgen.delay(seconds * 1000)
  pktgen.stop("0")
  pktgen.delay(2000)
  local stats = pktgen.portStats("0-1", "port")
  return stats[0].opackets, stats[1].ipackets
end

pktgen.set_mac("0", "dst", gateway)
pktgen.set_ipaddr("0", "src", "192.168.60.2/24")
pktgen.set_ipaddr("0", "dst", "172.20.1.2")
pktgen.set_proto("0", "udp")
pktgen.set("0", "sport", 1024)
pktgen.set("0", "dport", 5001)

for _, size in ipairs(sizes) do
  local low, high, best = 0.0, 100.0, 0
  while high - low > 0.2 do
    local rate = (low + high) / 2
    local sent, received = trial(size, rate)
    printf("%d bytes %.1f %%: sent %d lost %d\n", size, rate, sent, sent - received)
    if received >= sent then low, best = rate, sent / seconds else high = rate end
  end
  printf("%d bytes: %.1f %% without loss, %.0f packets/s\n", size, low, best)
end
