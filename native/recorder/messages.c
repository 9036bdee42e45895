/* Messages: with an address, with control data. */
#include "recorder/streams.h"

struct message_head {
	uint32_t address_bytes, control_bytes, data_bytes;
	int32_t flags;
};

static long receive_message(int fd, struct msghdr *message, int flags)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(recvmsg)(fd, message, flags);
		if (mode == LOG_MODE_RECORD) {
			struct msghdr before = *message;
			ft_real_begin();
			long result = REAL(recvmsg)(fd, message, flags);
			int error = errno;
			ft_real_end();
			struct message_head head = {0};
			struct iovec parts[64];
			int count = 1;
			parts[0] = (struct iovec){&head, sizeof head};
			if (result >= 0) {
				head = (struct message_head){message->msg_name == NULL ? 0 : message->msg_namelen,
					(uint32_t)message->msg_controllen, (uint32_t)result, message->msg_flags};
				if (head.address_bytes > before.msg_namelen)
					head.address_bytes = before.msg_namelen;
				parts[count++] = (struct iovec){message->msg_name, head.address_bytes};
				parts[count++] = (struct iovec){message->msg_control, head.control_bytes};
				count += ft_vector_first(message->msg_iov, message->msg_iovlen < 60 ? (int)message->msg_iovlen : 60,
				                  (size_t)result, parts + count);
			}
			if (ft_put_callv(LOG_MESSAGE, (uint32_t)fd, result, error, parts, count)) {
				errno = error;
				return result;
			}
			*message = before;
			if (result > 0 && !(flags & MSG_PEEK))
				ft_connection_read(fd, -result);
			continue;
		}
		const struct log_event *e = ft_take(LOG_MESSAGE, (uint32_t)fd);
		if (e == NULL)
			continue;
		struct message_head head;
		memcpy(&head, e->payload, sizeof head);
		const uint8_t *at = e->payload + sizeof head;
		if (sizeof head + (uint64_t)head.address_bytes + head.control_bytes + head.data_bytes > e->payload_bytes)
			ft_corrupt("a message that is longer than its record");
		if (e->call.result >= 0) {
			if (message->msg_name != NULL)
				memcpy(message->msg_name, at, head.address_bytes < message->msg_namelen ? head.address_bytes : message->msg_namelen);
			memcpy(message->msg_control, at + head.address_bytes,
			       head.control_bytes < message->msg_controllen ? head.control_bytes : message->msg_controllen);
			message->msg_namelen = head.address_bytes;
			message->msg_controllen = head.control_bytes;
			message->msg_flags = head.flags;
			if (!(flags & MSG_PEEK))
				ft_connection_read(fd, e->call.result);
			ft_vector_spread(message->msg_iov, (int)message->msg_iovlen, at + head.address_bytes + head.control_bytes, head.data_bytes);
		}
		return ft_result(e);
	}
}

FT_PUBLIC ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	if (ft_is_recorded(fd) && ft_kind_of(fd) == FT_CHANNEL)
		return ft_channel_receive(fd, message, flags);
	return ft_is_recorded(fd) && ft_is_external(fd) ? receive_message(fd, message, flags) : REAL(recvmsg)(fd, message, flags);
}

FT_PUBLIC ssize_t recvfrom(int fd, void *buffer, size_t bytes, int flags, struct sockaddr *address, socklen_t *address_bytes)
{
	if (ft_is_recorded(fd) && ft_kind_of(fd) == FT_CHANNEL)
		return recv(fd, buffer, bytes, flags);
	if (!ft_is_recorded(fd) || !ft_is_external(fd))
		return REAL(recvfrom)(fd, buffer, bytes, flags, address, address_bytes);
	struct iovec vector = {buffer, ft_cut(bytes)};
	struct msghdr message = {.msg_name = address, .msg_namelen = address != NULL ? *address_bytes : 0, .msg_iov = &vector,
		.msg_iovlen = 1};
	long result = receive_message(fd, &message, flags);
	if (result >= 0 && address != NULL)
		*address_bytes = message.msg_namelen;
	return result;
}

FT_PUBLIC ssize_t __recvfrom_chk(int fd, void *buffer, size_t bytes, size_t room, int flags, struct sockaddr *address,
                                 socklen_t *address_bytes)
{
	(void)room;
	return recvfrom(fd, buffer, bytes, flags, address, address_bytes);
}
