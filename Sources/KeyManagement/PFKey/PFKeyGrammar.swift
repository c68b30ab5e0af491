/// Which extensions a request of each type must and may have. OpenBSD's are the bitmaps of its parser; Linux checks each
/// message by hand, so its own are what its daemons send and RFC 2367 allows.
struct PFKeyGrammar {
  var required: Set<PFKeyExtensionType>
  var allowed: Set<PFKeyExtensionType>

  private init(_ required: Set<PFKeyExtensionType>, _ optional: Set<PFKeyExtensionType> = []) {
    self.required = required
    allowed = required.union(optional)
  }

  private static let addresses: Set<PFKeyExtensionType> = [.source, .destination]
  private static let lifetimes: Set<PFKeyExtensionType> = [.lifetimeCurrent, .lifetimeHard, .lifetimeSoft]
  private static let keys: Set<PFKeyExtensionType> = [.authenticationKey, .encryptionKey]
  private static let identities: Set<PFKeyExtensionType> = [.identitySource, .identityDestination]
  private static let flow: Set<PFKeyExtensionType> = [
    .sourceMask, .destinationMask, .flowProtocol, .sourceFlow, .destinationFlow, .flowType,
  ]

  init(_ type: PFKeyMessageType, _ dialect: PFKeyDialect) {
    self = dialect == .linux ? Self.linux(type) : Self.openBSD(type)
  }

  private static func linux(_ type: PFKeyMessageType) -> PFKeyGrammar {
    let nat: Set<PFKeyExtensionType> = [.natType, .natSourcePort, .natDestinationPort, .natOriginalAddress]
    switch type {
    case .getSPI: return PFKeyGrammar(addresses, [.spiRange, .sa2, .proxy, .kmPrivate])
    case .update, .add:
      let more: Set<PFKeyExtensionType> = [.proxy, .sensitivity, .sa2, .securityContext, .kmPrivate]
      return PFKeyGrammar(
        addresses.union([.sa]), lifetimes.union(keys).union(identities).union(nat).union(more))
    case .delete, .get: return PFKeyGrammar(addresses.union([.sa]), nat.union([.sa2, .proxy]))
    case .acquire:
      return PFKeyGrammar([], addresses.union(identities).union([.proxy, .sensitivity, .proposal, .policy]))
    case .expire: return PFKeyGrammar(addresses.union([.sa]), lifetimes.union([.sa2]))
    case .dump: return PFKeyGrammar([], [.filter])
    case .policyUpdate, .policyAdd, .policyDelete, .policySetIndex:
      return PFKeyGrammar(addresses.union([.policy]), lifetimes.union([.sa2, .securityContext]))
    case .policyGet, .policyDeleteByID: return PFKeyGrammar([.policy], addresses.union(lifetimes).union([.sa2]))
    default: return PFKeyGrammar([])
    }
  }

  private static func openBSD(_ type: PFKeyMessageType) -> PFKeyGrammar {
    let required = flow.subtracting([.flowProtocol])
    let extras: Set<PFKeyExtensionType> = [
      .udpEncapsulation, .tag, .tap, .routingDomain, .counter, .replay, .interface,
    ]
    let sa = lifetimes.union(keys).union(identities).union(flow).union(extras)
    switch type {
    case .getSPI: return PFKeyGrammar(addresses.union([.spiRange]))
    case .update: return PFKeyGrammar(addresses.union([.sa]), sa.union([.proxy]))
    case .add: return PFKeyGrammar([.sa, .destination], sa.union([.source, .lastUse]))
    case .delete, .get: return PFKeyGrammar([.sa, .destination], [.source, .routingDomain])
    case .acquire: return PFKeyGrammar([], addresses.union(identities).union([.proposal]))
    case .expire: return PFKeyGrammar(addresses.union([.sa]))
    case .addFlow: return PFKeyGrammar(required, addresses.union(identities).union([.flowProtocol, .routingDomain]))
    case .deleteFlow: return PFKeyGrammar(required, [.flowProtocol, .routingDomain])
    case .groupSPIs:
      return PFKeyGrammar([.sa, .secondSA, .secondDestination, .destination, .secondSAType], [.routingDomain])
    case .askPolicy: return PFKeyGrammar([.askedPolicy])
    default: return PFKeyGrammar([])
    }
  }
}
