import Foundation

extension IKEReport {
  /// What iked says of itself: `ikectl show sa`. It tells no counters and no lifetimes; the gateway has them by SPI.
  public init(iked: Ikectl) throws(Ikectl.Failure) {
    let process = try iked.process()
    self.init(daemon: Daemon(name: "iked", socketPath: iked.socketPath, processID: process))
    sas = Self.sas(ofListing: try iked.run("show", "sa"))
  }

  /// The `iked_sas` of a listing with what hangs on each; lines that are not understood are left out.
  static func sas(ofListing text: String) -> [IKESA] {
    var sas: [IKESA] = []
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      switch words.first {
      case "iked_sas:":
        if let sa = IKESA(ikedWords: words) { sas.append(sa) }
      case "sa_childsas:" where words.count >= 8 && !sas.isEmpty:
        sas[sas.count - 1].add(childWords: words)
      case "sa_flows:" where words.count >= 7 && words[3] == "in" && !sas.isEmpty:
        // What comes in is seen from the other side.
        sas[sas.count - 1].add(local: String(words[6]), remote: String(words[4]))
      case "iked_activesas:", "iked_flows:", "iked_dstid_sas:": return sas
      default: break
      }
    }
    return sas
  }
}

extension IKEReport.IKESA {
  /// `iked_sas: 0x… rspi 0x… ispi 0x… LOCAL:500->REMOTE:500<IPV4/ID>[] ESTABLISHED i …`
  fileprivate init?(ikedWords words: [Substring]) {
    guard words.count >= 9, words[2] == "rspi", words[4] == "ispi", let arrow = words[6].range(of: "->") else {
      return nil
    }
    let near = Self.end(words[6][..<arrow.lowerBound])
    let rest = words[6][arrow.upperBound...]
    let far = Self.end(rest.prefix { $0 != "<" })
    let id = rest.drop { $0 != "<" }.dropFirst().prefix { $0 != ">" }
    self.init(name: "peer-\(far.host)", id: String(words[5].dropFirst(2)), state: String(words[7]))
    version = "IKEv2"
    (localHost, localPort) = (near.host, near.port)
    (remoteHost, remotePort) = (far.host, far.port)
    remoteID = id.isEmpty ? nil : String(id)
    isInitiator = words[8] == "i"
    responderSPI = String(words[3].dropFirst(2))
    initiatorSPI = String(words[5].dropFirst(2))
  }

  private static func end(_ text: Substring) -> (host: String, port: UInt64?) {
    guard let colon = text.lastIndex(of: ":") else { return (String(text), nil) }
    return (
      text[..<colon].filter { $0 != "[" && $0 != "]" }, UInt64(text[text.index(after: colon)...])
    )
  }

  /// `sa_childsas: 0x… ESP 0xSPI in|out A -> B (LA) B=… P=… @…`: each direction by itself, the other named after `P=`.
  fileprivate mutating func add(childWords words: [Substring]) {
    let isIn = words[4] == "in"
    let spi = String(words[3].dropFirst(2))
    let own = String(words[1])
    let other = words.first { $0.hasPrefix("P=") }.map { String($0.dropFirst(2)) }
    let index: Int
    if let known = children.firstIndex(where: { $0.id == own || (other != nil && $0.id == other) }) {
      index = known
    } else {
      index = children.count
      children.append(IKEReport.ChildSA(name: name, id: own, state: "INSTALLED"))
    }
    children[index].saProtocol = words[2].lowercased()
    if isIn { children[index].spiIn = spi } else { children[index].spiOut = spi }
  }

  /// iked does not say which flow uses which of the peer's SAs: all of them do.
  fileprivate mutating func add(local: String, remote: String) {
    for index in children.indices {
      children[index].localSelectors.append(local)
      children[index].remoteSelectors.append(remote)
      children[index].name = "from-\(children[index].localSelectors[0])-to-\(children[index].remoteSelectors[0])"
    }
  }
}
