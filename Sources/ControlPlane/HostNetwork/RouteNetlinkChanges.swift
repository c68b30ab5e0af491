import CLinux
import Glibc
import Routing
import Wire

/// The changes that the gateway makes to the kernel's networking.
extension RouteNetlink {
  /// Sets an interface up or down and, where given, its MTU and Ethernet address, in one request.
  func setLink(_ index: Int32, name: String, isUp: Bool, mtu: UInt32?, mac: MACAddress?) throws(HostNetworkError) {
    var request = request(Int(RTM_NEWLINK))
    request.append(UInt32(AF_UNSPEC))
    request.append(index)
    request.append(isUp ? KernelLink.up : 0)
    request.append(KernelLink.up)
    if let mtu { request.attribute(Int(IFLA_MTU), mtu) }
    if let mac { request.attribute(Int(IFLA_ADDRESS), mac.bytes) }
    try change(request, "configuring interface \(name)")
  }

  /// Adds an address; one that is there already is well. IPv6 without duplicate address detection: the data path speaks
  /// for the address whatever that would find, and a tentative address cannot be bound to.
  func add(_ address: LocalAddress, to index: Int32, name: String) throws(HostNetworkError) {
    var request = addressRequest(Int(RTM_NEWADDR), NLM_F_CREATE | NLM_F_EXCL, address, index)
    if let broadcast = address.broadcast { request.attribute(Int(IFA_BROADCAST), broadcast.bytes) }
    do throws(HostNetworkError) {
      try change(request, "adding \(address) to interface \(name)")
    } catch .system(_, EEXIST) {
      return
    }
  }

  /// Removes an address; one that is gone already is well.
  func remove(_ address: LocalAddress, from index: Int32, name: String) throws(HostNetworkError) {
    let request = addressRequest(Int(RTM_DELADDR), 0, address, index)
    do throws(HostNetworkError) {
      try change(request, "removing \(address) from interface \(name)")
    } catch .system(_, EADDRNOTAVAIL) {
      return
    }
  }

  private func addressRequest(
    _ type: Int, _ flags: Int32, _ address: LocalAddress, _ index: Int32
  ) -> NetlinkRequest {
    var request = request(type, flags: flags)
    request.append(address.address.family.rawValue)
    request.append(address.length)
    request.append(address.address.family == .v6 ? UInt8(IFA_F_NODAD) : 0)
    request.append(UInt8(RT_SCOPE_UNIVERSE.rawValue))
    request.append(index)
    request.attribute(Int(IFA_LOCAL), address.address.bytes)
    request.attribute(Int(IFA_ADDRESS), address.address.bytes)
    return request
  }

  /// Adds or takes away a route of the gateway's own (protocol `static`); what is there, or gone, already is well.
  func setRoute(
    _ prefix: IPPrefix, via gateway: IPAddress?, on index: Int32, isPresent: Bool
  ) throws(HostNetworkError) {
    let flags = isPresent ? NLM_F_CREATE | NLM_F_REPLACE : 0
    var request = request(Int(isPresent ? RTM_NEWROUTE : RTM_DELROUTE), flags: flags)
    request.append(prefix.family.rawValue)
    request.append(prefix.length)
    request.append(UInt16(0))
    request.append(UInt8(RT_TABLE_MAIN.rawValue))
    request.append(UInt8(RTPROT_STATIC))
    request.append(UInt8((gateway == nil ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE).rawValue))
    request.append(UInt8(RTN_UNICAST))
    request.append(UInt32(0))
    request.attribute(Int(RTA_DST.rawValue), prefix.address.bytes)
    if let gateway { request.attribute(Int(RTA_GATEWAY.rawValue), gateway.bytes) }
    request.attribute(Int(RTA_OIF.rawValue), UInt32(bitPattern: index))
    do throws(HostNetworkError) {
      try change(request, "\(isPresent ? "adding" : "removing") route \(prefix)")
    } catch .system(_, ESRCH) where !isPresent {
      return
    }
  }

  /// As if the kernel itself had a packet for the neighbour (NTF_USE): starts resolution of one that is not known, and
  /// has one that is stale confirmed. The result is heard as a notice.
  func use(_ address: IPAddress, on index: Int32) throws(HostNetworkError) {
    var request = request(Int(RTM_NEWNEIGH), flags: NLM_F_CREATE)
    request.append(UInt32(address.family.rawValue))
    request.append(index)
    request.append(UInt16(0))
    request.append(UInt8(NTF_USE))
    request.append(UInt8(0))
    request.attribute(Int(NDA_DST), address.bytes)
    try change(request, "resolving \(address)")
  }
}
