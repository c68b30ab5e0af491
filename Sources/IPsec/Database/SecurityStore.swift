import Wire

/// The SAD and SPD as the control thread sees them: what `ipsec.conf`, PF_KEY, XFRM and the control API speak to.
/// Every call is made on the control thread and returns when the change is published to the workers; what it replaced
/// is reclaimed after a grace period. `origin` names the session that asked (0: none) and comes back in the event, so
/// that a session does not hear its own echo.
public protocol SecurityStore: AnyObject {
  // MARK: SAD

  /// A mature SA. `exists` if a mature, dying or dead one with this identifier stands; a larval one is completed.
  func add(_ sa: SAParameters, origin: UInt64) throws(DatabaseError)
  /// Completes a larval SA, or changes lifetimes, encapsulation, ports, selector of one that stands; keys and replay
  /// state of a mature SA stay. `notFound` if there is none.
  func update(_ sa: SAParameters, origin: UInt64) throws(DatabaseError)
  /// Reserves an SPI for an inbound SA as a larval SA that expires after 30 s. `template.spi` is ignored.
  func allocateSPI(_ template: SAParameters, in range: ClosedRange<UInt32>, origin: UInt64) throws(DatabaseError)
    -> UInt32
  func delete(_ id: SAIdentifier, origin: UInt64) throws(DatabaseError)
  func flushSAs(_ saProtocol: SAProtocol?, owner: Owner?, origin: UInt64)
  func record(_ id: SAIdentifier) -> SARecord?
  /// In order of SPI, then destination.
  func records() -> [SARecord]
  func saCount() -> Int
  /// Binds `first` and `then` into a bundle (OpenBSD's GRPSPIS): packets get `first`, then `then`.
  func bundle(_ first: SAIdentifier, with then: SAIdentifier, origin: UInt64) throws(DatabaseError)
  /// Sets the replay state of an SA that is taken over (NEWAE).
  func setSequence(_ id: SAIdentifier, sequence: UInt64, replayHighest: UInt64) throws(DatabaseError)

  /// What key daemons were asked for and have not answered: larval SAs without an SPI, oldest question first.
  func wantedSAs() -> [SARecord]
  /// Ends the questions for such an SA; false if there is none.
  func giveUp(_ saProtocol: SAProtocol, to peer: IPAddress) -> Bool

  // MARK: SPD

  /// Returns the index. `exists` if one with the same selector, direction, mark, interface (and family) stands and not
  /// `replacing`.
  func add(_ policy: PolicyParameters, replacing: Bool, origin: UInt64) throws(DatabaseError) -> UInt32
  func deletePolicy(index: UInt32, origin: UInt64) throws(DatabaseError)
  func deletePolicy(
    direction: PolicyDirection, selector: Selector, mark: Mark?, interfaceID: UInt32, origin: UInt64
  ) throws(DatabaseError)
  func flushPolicies(owner: Owner?, origin: UInt64)
  func policy(index: UInt32) -> PolicyRecord?
  func policy(
    direction: PolicyDirection, selector: Selector, mark: Mark?, interfaceID: UInt32
  ) -> PolicyRecord?
  /// In the order in which they were added.
  func policies() -> [PolicyRecord]
  func policyCount() -> Int

  // MARK: Events

  /// Called on the control thread. Returns a token for `unsubscribe`.
  func subscribe(_ handler: @escaping (DatabaseEvent, _ origin: UInt64) -> Void) -> Int
  func unsubscribe(_ token: Int)
}
