import CLayout
import DataPlane
import Engines
import Foundation
import IPsec
import Logging
import Synchronization
import Wire

/// What workers and the database report, and what is done by the clock.
extension Gateway {
  /// From a worker.
  func handle(_ event: Event) {
    switch event.kind {
    case .acquire:
      database.acquire(policyIndex: event.number, key: event.key)
    case .softLimit:
      database.limitReached(serial: event.number, hard: false)
    case .hardLimit:
      database.limitReached(serial: event.number, hard: true)
    case .sequenceExhausted:
      logger.error("SA serial \(event.number): its sequence numbers are used up; it carries nothing more")
      database.limitReached(serial: event.number, hard: true)
    case .numbersNeeded:
      if database.numbersNeeded(serial: event.number) { tellOfState() }
    case .unkeyed:
      database.keysNeeded(serial: event.number)
    case .mapping:
      database.mappingChanged(serial: event.number, address: event.peer, port: event.key.source_port)
    case .pathMTU:
      let mtu = UInt32(truncatingIfNeeded: event.value)
      logger.info("SA serial \(event.number): the path takes packets of \(mtu) bytes")
      database.pathMTUChanged(serial: event.number, mtu: mtu)
      // Paths change: larger packets are tried again (RFC 1191 6.3).
      loop.schedule(after: .seconds(configuration.pathMTUExpiry)) { [weak self] in
        self?.database.pathMTUChanged(serial: event.number, mtu: 0)
      }
    }
  }

  /// From the database: ESP that comes before its SA waits for it.
  func noteLarval(_ sa: SAParameters, isThere: Bool) {
    guard sa.saProtocol == .esp else { return }
    if isThere {
      dataPlane.expectSA(spi: sa.spi)
    } else {
      // Behind what this thread is doing: the SA is in place then, if one comes.
      if settledSPIs.isEmpty {
        later { gateway in
          for spi in gateway.settledSPIs { gateway.dataPlane.settleSA(spi: spi) }
          gateway.settledSPIs = []
        }
      }
      settledSPIs.append(sa.spi)
    }
  }

  /// From the database, after the change stands.
  func handle(_ event: DatabaseEvent, origin: UInt64) {
    events.publish(event, origin: origin, process: keySockets?.process(ofOrigin: origin))
    policyJournal.note(event)
    tunnels.handle(event, origin: origin)
    switch event {
    case .saExpired(let record, let hard):
      logger.info(
        "\(record.parameters.identifier): \(hard ? "hard" : "soft") lifetime reached", metadata: record.logFields)
    case .mapping(let record, let source, let port):
      logger.notice(
        "\(record.parameters.identifier): peer is at \(source) port \(port) now", metadata: record.logFields)
    case .policyAdded(let record) where record.parameters.direction == .out && database.acquiresOutstanding > 0:
      // A key daemon may answer for a wide policy by a narrower one that has the SA.
      dataPlane.host.releaseProtected(policy: nil)
    default: break
    }
  }

  func everyQuarterSecond() {
    let seconds = UInt64(startedAt.duration(to: .now).components.seconds) + 1
    dataPlane.shared.pointee.clock.store(UInt32(truncatingIfNeeded: seconds), ordering: .relaxed)
    database.reserveNumbers()
    policyJournal.write()
    tellOfState()
    refreshLocalPorts()
    hearOfTunnels()
    dataPlane.host.hasKeyDaemon.store(keySockets?.daemons.isEmpty == false, ordering: .relaxed)
  }

  func everySecond() {
    database.tick(now: UInt64(startedAt.duration(to: .now).components.seconds) + 1)
    hostNetwork?.tick(now: Self.nanoseconds())
    checkLinks()
    sampleWorkers()
    sendDummies()
    findLostEvents()
    endTunnelSecond()
    tellServiceManager()
  }

  /// Its watchdog is fed while this thread and every worker's loop go on: one that hangs ends the process, and another
  /// takes over what it kept.
  private func tellServiceManager() {
    guard let serviceManager else { return }
    if heartbeat.allAdvanced((0..<dataPlane.workerCount).map { dataPlane.workerStatistics($0).loops }) {
      serviceManager.feedWatchdog()
    }
    let load = workerSamples.rates.map { 1 - $0.idleShare }.max() ?? 0
    serviceManager.show(
      status: "\(database.saCount()) SAs, \(database.policyCount()) policies; load \(Int((load * 100).rounded())) %")
  }

  /// What key daemons protected before: without SAs, so that it waits for them and does not pass in clear.
  func restorePolicies() throws {
    let policies: [PolicyParameters]
    do { policies = try policyJournal.read() } catch { throw GatewayError.file(error.path, error.reason) }
    let kept = policies.filter { (try? database.add($0, replacing: false, origin: 0)) != nil }
    // The file has them all at every moment.
    policyJournal.begin()
    guard !kept.isEmpty else { return }
    logger.notice(
      "\(kept.count) policies of key daemons stand again; what they protect is held back until there are SAs for it")
  }

  private func findLostEvents() {
    let dropped = dataPlane.eventsDropped
    guard dropped != eventsDropped else { return }
    logger.warning("\(dropped - eventsDropped) events of workers were lost: looking for SAs that have stopped")
    eventsDropped = dropped
    database.expireStopped()
  }

  /// Of any size up to a packet's, as what they stand for; where an SA pads (TFC), all are alike.
  private func sendDummies() {
    let count = configuration.dummyPackets
    guard count > 0 else { return }
    let packets = database.outboundTunnels(atMost: Self.mostDummies / count).flatMap { sa in
      (0..<count).map { _ in
        DummyPacket(spi: sa.spi, destination: sa.destination, length: .random(in: 40...1280))
      }
    }
    dataPlane.host.send(dummies: packets)
  }

  /// Of all SAs together, a second: the ring to a worker holds 1024 at a time.
  private static let mostDummies = 1000
}

extension SARecord {
  /// Whom a line of the log is about.
  var logFields: Logger.Metadata {
    ["spi": "0x\(String(parameters.spi, radix: 16))", "peer": "\(peer)"]
  }
}
