import IPsec

extension Parser {
  private static let types: [(Keyword, PolicyType)] = [
    (.use, .use), (.acquire, .acquire), (.require, .require), (.deny, .deny), (.bypass, .bypass), (.dontacq, .dontacq),
  ]

  mutating func parseFlow() throws(ParseFailure) {
    advance()
    let saProtocol = parseProtocol()
    var direction: PolicyDirection?
    if accept(.in) {
      direction = .in
    } else if accept(.out) {
      direction = .out
    }
    let ipProtocol = try parseIPProtocol()
    let hosts = try parseHosts()
    let peers = try parsePeers()
    let identities = try parseIdentities()
    let type = try parseType() ?? (saProtocol == .ipcomp || saProtocol == .ipip ? .use : .require)
    try checkPorts(hosts, ipProtocol)
    let isPlain = type == .deny || type == .bypass
    try expand(hosts) { (parser, source, destination) throws(ParseFailure) in
      var flow = FlowRule(
        saProtocol: saProtocol, direction: direction ?? .out, ipProtocol: ipProtocol, source: source.host,
        sourcePort: hosts.sourcePort, destination: destination.host, destinationPort: hosts.destinationPort,
        identities: isPlain ? nil : identities, type: type)
      guard isPlain || parser.setPeers(&flow, peers) else { return false }
      try parser.add(.flow(flow))
      if direction == nil { try parser.add(.flow(flow.reversed)) }
      return true
    }
  }

  private mutating func parseType() throws(ParseFailure) -> PolicyType? {
    guard accept(.type) else {
      try expectEndOfLine()
      return nil
    }
    for (keyword, type) in Self.types where accept(keyword) { return type }
    throw .syntax
  }

  mutating func checkPorts(_ hosts: HostPair, _ ipProtocol: UInt8) throws(ParseFailure) {
    guard hosts.sourcePort != 0 || hosts.destinationPort != 0, ipProtocol != 6, ipProtocol != 17 else { return }
    throw fail("no protocol supplied with source/destination ports")
  }

  /// The peer, unless given, is the far host, which must be a single one.
  private mutating func setPeers(_ flow: inout FlowRule, _ peers: Peers) -> Bool {
    if case .host(let host, _)? = peers.local { flow.local = host }
    switch peers.peer {
    case .host(let host, _)?: flow.peer = host
    case .any?: flow.peer = nil
    case nil:
      let far = flow.direction == .in ? flow.source : flow.destination
      guard !far.isNetwork else {
        lexer.report("no peer specified for destination \(flow.destination.name)")
        return false
      }
      flow.peer = far
    }
    return true
  }
}
