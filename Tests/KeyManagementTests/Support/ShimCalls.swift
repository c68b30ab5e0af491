import Foundation

/// The shim's own functions, called as a daemon's calls would come to them.
struct ShimCalls {
  typealias Socket = @convention(c) (Int32, Int32, Int32) -> Int32
  typealias Bind = @convention(c) (Int32, UnsafePointer<sockaddr>?, socklen_t) -> Int32
  typealias Name = @convention(c) (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> Int32
  typealias SetOption = @convention(c) (Int32, Int32, Int32, UnsafeRawPointer?, socklen_t) -> Int32
  typealias Send = @convention(c) (Int32, UnsafeRawPointer?, Int, Int32) -> Int
  typealias Write = @convention(c) (Int32, UnsafeRawPointer?, Int) -> Int
  typealias Vector = @convention(c) (Int32, UnsafePointer<iovec>?, Int32) -> Int
  typealias Receive = @convention(c) (Int32, UnsafeMutableRawPointer?, Int, Int32) -> Int
  typealias Read = @convention(c) (Int32, UnsafeMutableRawPointer?, Int) -> Int
  typealias ReceiveMessage = @convention(c) (Int32, UnsafeMutablePointer<msghdr>?, Int32) -> Int
  typealias ReceiveChecked = @convention(c) (Int32, UnsafeMutableRawPointer?, Int, Int, Int32) -> Int
  typealias Poll = @convention(c) (UnsafeMutablePointer<pollfd>?, UInt, Int32) -> Int32

  let socket: Socket
  let bind: Bind
  let getsockname: Name
  let getpeername: Name
  let setsockopt: SetOption
  let send: Send
  let write: Write
  let writev: Vector
  let readv: Vector
  let recv: Receive
  let read: Read
  let recvmsg: ReceiveMessage
  let recvChecked: ReceiveChecked
  let poll: Poll

  /// A copy of the library of its own, that reads its settings anew. It stays loaded.
  init?(directory: String) {
    guard let library = Shim.library else { return nil }
    let copy = directory + "/shim-\(UInt32.random(in: 0...UInt32.max)).so"
    guard (try? FileManager.default.copyItem(atPath: library, toPath: copy)) != nil else { return nil }
    setenv("GW_RUN_DIR", directory, 1)
    defer { unsetenv("GW_RUN_DIR") }
    guard let handle = dlopen(copy, RTLD_NOW | RTLD_LOCAL) else { return nil }
    func load<Function>(_ name: String, as type: Function.Type) -> Function {
      guard let symbol = dlsym(handle, name) else { fatalError("\(name) is not exported") }
      return unsafeBitCast(symbol, to: type)
    }
    socket = load("socket", as: Socket.self)
    bind = load("bind", as: Bind.self)
    getsockname = load("getsockname", as: Name.self)
    getpeername = load("getpeername", as: Name.self)
    setsockopt = load("setsockopt", as: SetOption.self)
    send = load("send", as: Send.self)
    write = load("write", as: Write.self)
    writev = load("writev", as: Vector.self)
    readv = load("readv", as: Vector.self)
    recv = load("recv", as: Receive.self)
    read = load("read", as: Read.self)
    recvmsg = load("recvmsg", as: ReceiveMessage.self)
    recvChecked = load("__recv_chk", as: ReceiveChecked.self)
    poll = load("poll", as: Poll.self)
  }
}
