import Glibc

/// Names of protocols and services. OpenBSD's own names come first, so that output does not hang on what
/// /etc/protocols and /etc/services of the machine say, or on whether they are there.
enum NetworkNames {
  private static let protocols: [(UInt8, String)] = [
    (0, "ip"), (1, "icmp"), (2, "igmp"), (4, "ipencap"), (6, "tcp"), (8, "egp"), (9, "igp"), (17, "udp"), (27, "rdp"),
    (41, "ipv6"), (43, "ipv6-route"), (44, "ipv6-frag"), (46, "rsvp"), (47, "gre"), (50, "esp"), (51, "ah"),
    (55, "mobile"), (58, "ipv6-icmp"), (59, "ipv6-nonxt"), (60, "ipv6-opts"), (88, "eigrp"), (89, "ospf"),
    (97, "etherip"), (98, "encap"), (103, "pim"), (108, "ipcomp"), (112, "carp"), (115, "l2tp"), (132, "sctp"),
    (136, "udplite"), (137, "mpls-in-ip"), (240, "pfsync"),
  ]
  private static let protocolAliases = ["icmp6": 58, "icmpv6": 58, "vrrp": 112] as [String: UInt8]

  private static let services: [(UInt16, String)] = [
    (7, "echo"), (9, "discard"), (13, "daytime"), (20, "ftp-data"), (21, "ftp"), (22, "ssh"), (23, "telnet"),
    (25, "smtp"), (37, "time"), (43, "whois"), (49, "tacacs"), (53, "domain"), (67, "bootps"), (68, "bootpc"),
    (69, "tftp"), (70, "gopher"), (79, "finger"), (80, "www"), (88, "kerberos"), (110, "pop3"), (111, "sunrpc"),
    (113, "auth"), (119, "nntp"), (123, "ntp"), (137, "netbios-ns"), (138, "netbios-dgm"), (139, "netbios-ssn"),
    (143, "imap"), (161, "snmp"), (162, "snmp-trap"), (179, "bgp"), (389, "ldap"), (443, "https"),
    (445, "microsoft-ds"), (500, "isakmp"), (514, "syslog"), (636, "ldaps"), (993, "imaps"), (995, "pop3s"),
    (1701, "l2tp"), (1812, "radius"), (1813, "radacct"), (2049, "nfsd"), (3306, "mysql"), (4500, "ipsec-nat-t"),
    (4789, "vxlan"), (5060, "sip"), (5432, "postgresql"), (6379, "redis"), (8080, "http-alt"),
  ]
  private static let serviceAliases = ["http": 80, "dns": 53, "nfs": 2049] as [String: UInt16]

  /// Those that exist for one of tcp and udp only.
  private static let tcpOnly: Set<UInt16> = [
    20, 21, 23, 25, 43, 70, 79, 110, 113, 119, 143, 179, 636, 993, 995, 3306, 5432, 6379,
  ]
  private static let udpOnly: Set<UInt16> = [67, 68, 69, 137, 138, 161, 162, 500, 514, 1701, 1812, 1813, 4500, 4789]

  static func protocolNumber(_ name: String) -> UInt8? {
    if let known = protocols.first(where: { $0.1 == name })?.0 ?? protocolAliases[name] { return known }
    return ask { buffer in
      var entry = protoent()
      var found: UnsafeMutablePointer<protoent>?
      guard getprotobyname_r(name, &entry, buffer.baseAddress, buffer.count, &found) == 0, found != nil else {
        return nil
      }
      return UInt8(exactly: entry.p_proto)
    }
  }

  static func protocolName(_ number: UInt8) -> String {
    if let known = protocols.first(where: { $0.0 == number }) { return known.1 }
    return ask { buffer in
      var entry = protoent()
      var found: UnsafeMutablePointer<protoent>?
      guard getprotobynumber_r(Int32(number), &entry, buffer.baseAddress, buffer.count, &found) == 0, found != nil
      else {
        return nil
      }
      return entry.p_name.map { String(cString: $0) }
    } ?? "\(number)"
  }

  static func port(_ name: String) -> UInt16? {
    if let known = services.first(where: { $0.1 == name })?.0 ?? serviceAliases[name] { return known }
    for transport in ["tcp", "udp"] {
      let port: UInt16? = ask { buffer in
        var entry = servent()
        var found: UnsafeMutablePointer<servent>?
        guard getservbyname_r(name, transport, &entry, buffer.baseAddress, buffer.count, &found) == 0, found != nil
        else { return nil }
        return UInt16(bigEndian: UInt16(truncatingIfNeeded: entry.s_port))
      }
      if let port { return port }
    }
    return nil
  }

  /// As ipsecctl prints a flow's port: tcp's name for tcp, udp's for all else.
  static func portName(_ port: UInt16, tcp: Bool) -> String {
    if let known = services.first(where: { $0.0 == port }), !(tcp ? udpOnly : tcpOnly).contains(port) {
      return known.1
    }
    return ask { buffer in
      var entry = servent()
      var found: UnsafeMutablePointer<servent>?
      let transport = tcp ? "tcp" : "udp"
      guard
        getservbyport_r(Int32(port.bigEndian), transport, &entry, buffer.baseAddress, buffer.count, &found) == 0,
        found != nil
      else { return nil }
      return entry.s_name.map { String(cString: $0) }
    } ?? "\(port)"
  }

  /// Room for one entry of the system's tables, as the reentrant functions want it.
  private static func ask<Answer>(_ body: (UnsafeMutableBufferPointer<CChar>) -> Answer?) -> Answer? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096, body)
  }
}
