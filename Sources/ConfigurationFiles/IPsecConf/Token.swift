/// The words of the grammar; each is reserved.
enum Keyword: String, CaseIterable {
  case acquire, active, aggressive, ah, any, auth, authkey, bundle, bypass, comp, deny, dontacq, dstid, dynamic, enc
  case enckey, esp, file, flow, from, group, ike, `in`, include, interface, ipcomp, ipip, lifetime, local, main, out
  case passive, peer, port, proto, psk, quick, require, rsa, spi, srcid, tag, tcpmd5, to, transport, tunnel, type
  case udpencap, use
}

enum Token: Equatable {
  case keyword(Keyword)
  case string(String)
  case number(Int64)
  case newline
  /// A character that is a token of its own, or that no token begins with.
  case character(UInt8)
  /// The lexer gave up on the rest of the line and has said why.
  case invalid
  case end
}
