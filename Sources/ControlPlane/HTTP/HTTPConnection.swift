import CLinux
import Glibc
import KeyManagement

/// One client: reads a request, has it answered, writes the answer, and so on. The server's thread's, except where it
/// says otherwise.
final class HTTPConnection: @unchecked Sendable {
  enum Phase: Equatable {
    /// For a request, or for the rest of its head.
    case head
    case body
    /// For its turn to be answered.
    case queued
    case answering
    /// The answer was written though the request was not read to its end: what still comes is dropped, so that the client
    /// reads the answer before it sees the connection close.
    case lingering
    case closed
  }

  /// How long what may take, at most.
  struct Patience: Sendable {
    var idle = Duration.seconds(60)
    var head = Duration.seconds(10)
    /// For all of a body, and for any more of it. It begins anew when a large one gets its turn.
    var body = Duration.seconds(60)
    var silence = Duration.seconds(10)
    /// For a place, or for a reader to take any more of an answer.
    var turn = Duration.seconds(60)
    var reader = Duration.seconds(30)
    var linger = Duration.seconds(2)
  }

  let number: UInt64
  let peer: HTTPPeer
  private let descriptor: Int32
  private let listener: HTTPListener
  private let loop: ControlLoop
  private(set) var phase = Phase.head
  /// When the phase began; when bytes last went either way.
  private(set) var since = ContinuousClock.now
  private var lastMoved = ContinuousClock.now

  private var input: [UInt8] = []
  /// Without the end of a head in it.
  private var searched = 0
  private var head: HTTPRequestHead?
  private var decoder = HTTPBodyDecoder(.none)
  private var body: [UInt8] = []
  /// A large body waits for its turn, or has it; so does the answer.
  private var waitsForBody = false
  private var holdsBody = false
  private var waitsForAnswer = false
  private var holdsAnswer = false

  private var output: [[UInt8]] = []
  private var firstOutput = 0
  private var firstOffset = 0
  /// Told when all output is written, or never will be.
  private var waiters: [(Result<Void, any Error>) -> Void] = []
  private var task: Task<Void, Never>?
  private var isEndless = false
  private var closesAfter = false
  private var lingersAfter = false
  private var isAnswered = false
  private var watched: IOEvents?

  init(_ descriptor: Int32, number: UInt64, peer: HTTPPeer, listener: HTTPListener, loop: ControlLoop) {
    self.descriptor = descriptor
    self.number = number
    self.peer = peer
    self.listener = listener
    self.loop = loop
  }

  func start() { rewatch() }

  /// Neither asks nor is answered.
  var isIdle: Bool { phase == .head || phase == .lingering }

  func close() {
    guard phase != .closed else { return }
    let wasAnswering = phase == .answering
    phase = .closed
    loop.unwatch(descriptor)
    Glibc.close(descriptor)
    output = []
    input = []
    for waiter in waiters { waiter(.failure(HTTPBodyWriter.Gone())) }
    waiters = []
    if isEndless { task?.cancel() }
    // An answer that is being made holds its places until it is done, and what it has of the body with it.
    if !wasAnswering { leaveTurnstiles() }
    listener.forget(self)
  }

  private func leaveTurnstiles() {
    let (body, answer) = (holdsBody || waitsForBody, holdsAnswer || waitsForAnswer)
    (holdsBody, waitsForBody, holdsAnswer, waitsForAnswer) = (false, false, false, false)
    if body { listener.leaveBody(self) }
    if answer { listener.leaveAnswer(self) }
  }

  private func enter(_ next: Phase) {
    phase = next
    since = .now
    lastMoved = since
  }

  // MARK: Ready, and the clock

  private func rewatch() {
    guard phase != .closed else { return }
    var wanted: IOEvents = []
    switch phase {
    case .head, .lingering: wanted.insert(.readable)
    case .body: if !waitsForBody { wanted.insert(.readable) }
    case .queued, .answering, .closed: break
    }
    if firstOutput < output.count { wanted.insert(.writable) }
    guard wanted != watched else { return }
    watched = wanted
    loop.watch(descriptor, for: wanted) { [weak self] events in self?.ready(events) }
  }

  private func ready(_ events: IOEvents) {
    if events.contains(.writable) { flush() }
    guard phase != .closed else { return }
    if events.contains(.readable) {
      read()
    } else if events.contains(.hangup) {
      return close()
    }
    rewatch()
  }

  private func read() {
    guard phase == .head || phase == .body || phase == .lingering else { return }
    switch listener.receive(descriptor) {
    case .nothing: return
    case .end: close()
    case .bytes(let bytes):
      lastMoved = .now
      guard phase != .lingering else { return }
      if phase == .head, input.isEmpty { since = lastMoved }
      input += bytes
      advance()
    }
  }

  /// Gives up what takes too long.
  func look(at now: ContinuousClock.Instant, _ patience: Patience) {
    let (age, silence) = (now - since, now - lastMoved)
    switch phase {
    case .head where input.isEmpty: if age > patience.idle { close() }
    case .head: if age > patience.head { refuse(.init(408, "the request's head took too long")) }
    case .body where waitsForBody: if age > patience.turn { refuse(.init(503, "the gateway reads other large bodies")) }
    case .body:
      if age > patience.body || silence > patience.silence { refuse(.init(408, "the request's body took too long")) }
    case .queued: if age > patience.turn { refuse(.init(503, "the gateway answers other requests")) }
    case .answering: if !isEndless, firstOutput < output.count, silence > patience.reader { close() }
    case .lingering: if age > patience.linger { close() }
    case .closed: break
    }
  }

  /// The server stops: who is being answered gets the answer, the others go.
  func drain() {
    switch phase {
    case .head, .lingering: close()
    case .body, .queued: refuse(Self.stopping)
    case .answering: if isEndless { close() } else { closesAfter = true }
    case .closed: break
    }
  }

  private static let stopping = HTTPRequestHead.Refusal(503, "the gateway is stopping")

  // MARK: Requests

  /// As far as what came reaches.
  private func advance() {
    do throws(HTTPRequestHead.Refusal) {
      while true {
        switch phase {
        case .head: guard try takeHead() else { return }
        case .body: guard try takeBody() else { return }
        case .queued, .answering, .lingering, .closed: return
        }
      }
    } catch {
      refuse(error)
    }
  }

  private func takeHead() throws(HTTPRequestHead.Refusal) -> Bool {
    // Empty lines before a request are passed over (RFC 9112 2.2).
    while input.starts(with: [0x0d, 0x0a]) { input.removeFirst(2) }
    guard let end = endOfHead() else {
      guard input.count <= HTTPRequestHead.longest else { throw .init(431, "the head is too long") }
      return false
    }
    guard end <= HTTPRequestHead.longest else { throw .init(431, "the head is too long") }
    let head = try HTTPRequestHead(input[..<(end + 2)])
    input.removeFirst(end + 4)
    searched = 0
    self.head = head
    closesAfter = !head.keepsAlive
    decoder = HTTPBodyDecoder(head.framing)
    body = []
    enter(.body)
    if case .length(let length) = head.framing {
      guard length <= listener.bodyLimit else { throw HTTPBodyDecoder.tooLarge }
      if length > HTTPListener.smallBody { askForBody() }
      if !waitsForBody { body.reserveCapacity(length) }
    }
    if !waitsForBody { sayContinue() }
    return true
  }

  /// Where CRLF CRLF begins.
  private func endOfHead() -> Int? {
    var index = max(searched - 3, 0)
    while index + 4 <= input.count {
      if input[index] == 0x0d, input[index + 1] == 0x0a, input[index + 2] == 0x0d, input[index + 3] == 0x0a {
        return index
      }
      index += 1
    }
    searched = input.count
    return nil
  }

  private func sayContinue() {
    guard head?.expectsContinue == true else { return }
    head?.expectsContinue = false
    send(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8))
  }

  private func takeBody() throws(HTTPRequestHead.Refusal) -> Bool {
    guard !waitsForBody else { return false }
    let count = try decoder.take(input[...], into: &body, limit: listener.bodyLimit)
    input.removeFirst(count)
    guard decoder.isDone else {
      if body.count > HTTPListener.smallBody, !holdsBody { askForBody() }
      return false
    }
    guard !listener.isStopping else { throw Self.stopping }
    enter(.queued)
    waitsForAnswer = !listener.enterAnswer(self)
    if !waitsForAnswer { answer() }
    return true
  }

  private func askForBody() {
    holdsBody = listener.enterBody(self)
    waitsForBody = !holdsBody
  }

  /// Its turn has come.
  func mayReadBody() {
    (holdsBody, waitsForBody) = (true, false)
    enter(.body)
    sayContinue()
    advance()
    rewatch()
  }

  func mayAnswer() {
    answer()
    rewatch()
  }

  // MARK: Answers

  private func answer() {
    guard let head else { return close() }
    (holdsAnswer, waitsForAnswer) = (true, false)
    enter(.answering)
    isAnswered = false
    var request = HTTPRequest(head, peer: peer)
    swap(&request.body, &body)
    let answer = listener.answer
    task = Task { [self, request] in
      await say(answer(request), to: request.method)
      loop.post { self.finish() }
    }
  }

  /// In the answer's task.
  private func say(_ response: HTTPResponse, to method: String) async {
    do {
      switch response.body {
      case .whole(let bytes):
        try await begin(response, isEndless: false, body: method == "HEAD" ? [] : bytes)
      case .parts(let isEndless, let make):
        let isChunked = try await begin(response, isEndless: isEndless, body: [])
        try await make(HTTPBodyWriter(connection: self, isChunked: isChunked))
        if isChunked { try await write(Array("0\r\n\r\n".utf8)) }
      }
    } catch {
      // It was cut in the middle: only the end of the connection says so.
      loop.post { self.close() }
    }
  }

  /// - Returns: whether parts go in chunks; to a client of HTTP/1.0 the end of the connection ends them.
  @discardableResult
  private func begin(_ response: HTTPResponse, isEndless: Bool, body: [UInt8]) async throws -> Bool {
    try await loop.call { [self] in
      guard phase == .answering else { throw HTTPBodyWriter.Gone() }
      if isEndless, listener.isStopping { throw HTTPBodyWriter.Gone() }
      self.isEndless = isEndless
      if isEndless { giveAnswerPlace() }
      let isChunked = head?.version == 1
      if case .parts = response.body, !isChunked { closesAfter = true }
      send(response.head(keepsAlive: !closesAfter, isChunked: isChunked) + body)
      return isChunked
    }
  }

  /// Who only listens takes nobody's turn.
  private func giveAnswerPlace() {
    guard holdsAnswer else { return }
    holdsAnswer = false
    listener.leaveAnswer(self)
  }

  /// Any task: queues bytes, and returns when all that is queued has been written.
  func write(_ bytes: [UInt8]) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      let isTaken = loop.post { [self] in
        guard phase == .answering else { return continuation.resume(throwing: HTTPBodyWriter.Gone()) }
        waiters.append { continuation.resume(with: $0) }
        send(bytes)
      }
      if !isTaken { continuation.resume(throwing: HTTPBodyWriter.Gone()) }
    }
  }

  private func finish() {
    task = nil
    leaveTurnstiles()
    guard phase == .answering else { return }
    isAnswered = true
    next()
    rewatch()
  }

  /// After an answer that was made and written.
  private func next() {
    guard phase == .answering, isAnswered, firstOutput == output.count else { return }
    head = nil
    guard !closesAfter else { return lingersAfter ? linger() : close() }
    enter(.head)
    advance()
  }

  private func linger() {
    shutdown(descriptor, Int32(SHUT_WR))
    input = []
    enter(.lingering)
  }

  /// The answer to what is no request, or none that is taken.
  private func refuse(_ refusal: HTTPRequestHead.Refusal) {
    guard phase != .answering, phase != .closed else { return }
    leaveTurnstiles()
    let isHead = head?.method == "HEAD"
    (closesAfter, lingersAfter, isAnswered) = (true, !listener.isStopping, true)
    body = []
    enter(.answering)
    let response = listener.refusal(refusal)
    var bytes = response.head(keepsAlive: false, isChunked: false)
    if case .whole(let text) = response.body, !isHead { bytes += text }
    send(bytes)
    next()
    rewatch()
  }

  // MARK: Output

  private func send(_ bytes: [UInt8]) {
    guard phase != .closed else { return }
    output.append(bytes)
    flush()
    rewatch()
  }

  private func flush() {
    while firstOutput < output.count {
      let count = output[firstOutput][firstOffset...].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
      }
      if count < 0 {
        if errno == EAGAIN || errno == EINTR || errno == ENOBUFS { return }
        return close()
      }
      lastMoved = .now
      firstOffset += count
      guard firstOffset == output[firstOutput].count else { continue }
      output[firstOutput] = []
      (firstOutput, firstOffset) = (firstOutput + 1, 0)
    }
    (output, firstOutput) = ([], 0)
    let told = waiters
    waiters = []
    for waiter in told { waiter(.success(())) }
    next()
  }
}
