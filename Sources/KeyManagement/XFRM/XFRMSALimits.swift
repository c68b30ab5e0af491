/// What the kernel would do for an SA and the gateway does not, and what makes no sense for an SA's direction.
extension XFRMSAReading {
  private static let inbound: UInt8 = 1
  private static let outbound: UInt8 = 2

  /// Attributes that no SA here can have: refused, as taking them would promise what they say.
  func refuseUnsupported() throws(KeyRefusal) {
    guard !info.flags.contains(.decapsulateDSCP) else {
      throw .unsupported("Copying the outer DSCP to the inner header (DECAP_DSCP) is not supported")
    }
    guard !info.flags.contains(.wildcard) else {
      throw .unsupported("Wildcard SAs (WILDRECV) are mobile IPv6's and not supported")
    }
    guard !info.flags.contains(.icmp) else {
      throw .unsupported("Matching ICMP errors by their payload (ICMP) is not supported")
    }
    guard !attributes.has(.securityContext) else { throw .unsupported("Security contexts are not supported") }
    guard !attributes.has(.careOfAddress) else { throw .unsupported("Care-of addresses are not supported") }
    guard !attributes.has(.natKeepalive) else {
      throw .unsupported("NAT keepalives are sent by the key daemon, not by the gateway")
    }
    guard attributes.uint32(.setMark) ?? 0 == 0 else {
      throw .unsupported("Output marks (SET_MARK) are not supported: packets of the gateway have no mark")
    }
    try attributes.refuseThresholds()
  }

  /// What SA_DIR rules out, as the kernel has it.
  func checkDirection() throws(KeyRefusal) {
    guard let direction = attributes.uint8(.direction) else { return }
    guard direction == Self.inbound || direction == Self.outbound else { throw .invalid("Invalid SA direction") }
    if direction == Self.inbound { try checkInbound() } else { try checkOutbound() }
  }

  private func checkInbound() throws(KeyRefusal) {
    guard !info.flags.contains(.noPMTUDiscovery) else {
      throw .invalid("Flag NOPMTUDISC must not be set for input SA")
    }
    guard attributes.uint32(.extraFlags) ?? 0 == 0 else {
      throw .invalid("Extra flags DONT_ENCAP_DSCP and OSEQ_MAY_WRAP must not be set for input SA")
    }
    guard !attributes.has(.tfcPadding) else { throw .invalid("TFC padding must not be set for input SA") }
    guard var cursor = attributes[.replayESNValue] else { return }
    guard XFRMReplayESN(from: &cursor).outbound == 0 else {
      throw .invalid("Replay oseq and oseq_hi must be 0 for input SA")
    }
  }

  private func checkOutbound() throws(KeyRefusal) {
    guard info.replayWindow == 0 else { throw .invalid("Replay window must be 0 for output SA") }
    guard var cursor = attributes[.replayESNValue] else { return }
    let replay = XFRMReplayESN(from: &cursor)
    guard replay.window == 0, replay.bitmapWords == 0 else { throw .invalid("Replay window must be 0 for output SA") }
    guard replay.inbound == 0 else { throw .invalid("Replay seq and seq_hi must be 0 for output SA") }
  }
}

extension XFRMAttributes {
  /// REPLAY_THRESH and ETIMER_THRESH would have NEWAE sent by themselves. 0 turns them off.
  func refuseThresholds() throws(KeyRefusal) {
    guard uint32(.replayThreshold) ?? 0 == 0, uint32(.timerThreshold) ?? 0 == 0 else {
      throw .unsupported("Replay events by threshold or timer are not supported: GETAE tells the state")
    }
  }
}
