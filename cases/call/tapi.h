/* SPDX-License-Identifier: Apache-2.0 */
/* The telephony API as applications see it: published function names, constants and structures of
 * the line subset that the call server serves (SYSTEMS.md A3-A5; Microsoft's SDK pages of the same
 * names), and the client library libtapi behind them. Only USEEVENT is offered as notification:
 * tapi_event_fd() is the thing to poll. One process has one connection to the server (its client
 * context) and may open several application handles in it. The library is for one thread.
 * Start: lineInitializeEx. */
#ifndef CALL_TAPI_H
#define CALL_TAPI_H

#include <stdint.h>

typedef uint32_t HLINEAPP, HLINE, HCALL;

enum { LINE_CALLINFO = 1, LINE_CALLSTATE = 2, LINE_CLOSE = 3, LINE_LINEDEVSTATE = 8 };
enum { LINE_REPLY = 12, LINE_CREATE = 19, LINE_APPNEWCALL = 23, LINE_REMOVE = 25 };

enum {
    LINECALLSTATE_IDLE = 1,
    LINECALLSTATE_OFFERING = 2,
    LINECALLSTATE_ACCEPTED = 4,
    LINECALLSTATE_DIALTONE = 8,
    LINECALLSTATE_DIALING = 0x10,
    LINECALLSTATE_RINGBACK = 0x20,
    LINECALLSTATE_BUSY = 0x40,
    LINECALLSTATE_CONNECTED = 0x100,
    LINECALLSTATE_PROCEEDING = 0x200,
    LINECALLSTATE_DISCONNECTED = 0x4000,
    LINECALLSTATE_UNKNOWN = 0x8000,
};

enum {
    LINEDISCONNECTMODE_NORMAL = 1,
    LINEDISCONNECTMODE_UNKNOWN = 2,
    LINEDISCONNECTMODE_REJECT = 4,
    LINEDISCONNECTMODE_BUSY = 0x20,
    LINEDISCONNECTMODE_NOANSWER = 0x40,
    LINEDISCONNECTMODE_UNREACHABLE = 0x100,
    LINEDISCONNECTMODE_CANCELLED = 0x80000,
};

enum { LINECALLPRIVILEGE_NONE = 1, LINECALLPRIVILEGE_MONITOR = 2, LINECALLPRIVILEGE_OWNER = 4 };
enum { LINECALLSELECT_LINE = 1, LINECALLSELECT_ADDRESS = 2, LINECALLSELECT_CALL = 4 };
enum { LINEINITIALIZEEXOPTION_USEEVENT = 2 };

enum {
    LINEMEDIAMODE_UNKNOWN = 2,
    LINEMEDIAMODE_INTERACTIVEVOICE = 4,
    LINEMEDIAMODE_AUTOMATEDVOICE = 8,
    LINEMEDIAMODE_DATAMODEM = 0x10,
    LINEMEDIAMODE_ALL = 0x1e,
};

enum {
    LINECALLINFOSTATE_NUMOWNERINCR = 0x800,
    LINECALLINFOSTATE_NUMOWNERDECR = 0x1000,
    LINECALLINFOSTATE_NUMMONITORS = 0x2000,
};

enum { LINECALLORIGIN_OUTBOUND = 1, LINECALLORIGIN_EXTERNAL = 4 };
enum { LINECALLREASON_DIRECT = 1 };

enum {
    LINECALLFEATURE_ACCEPT = 1,
    LINECALLFEATURE_ANSWER = 4,
    LINECALLFEATURE_DROP = 0x80,
};

#define TAPI_ERROR(code) ((int32_t)(0x80000000u | (code)))
#define LINEERR_ALLOCATED TAPI_ERROR(0x01u)
#define LINEERR_BADDEVICEID TAPI_ERROR(0x02u)
#define LINEERR_CALLUNAVAIL TAPI_ERROR(0x05u)
#define LINEERR_INCOMPATIBLEAPIVERSION TAPI_ERROR(0x0cu)
#define LINEERR_INVALADDRESS TAPI_ERROR(0x10u)
#define LINEERR_INVALADDRESSID TAPI_ERROR(0x11u)
#define LINEERR_INVALAPPHANDLE TAPI_ERROR(0x14u)
#define LINEERR_INVALAPPNAME TAPI_ERROR(0x15u)
#define LINEERR_INVALCALLHANDLE TAPI_ERROR(0x18u)
#define LINEERR_INVALCALLPRIVILEGE TAPI_ERROR(0x1au)
#define LINEERR_INVALCALLSELECT TAPI_ERROR(0x1bu)
#define LINEERR_INVALCALLSTATE TAPI_ERROR(0x1cu)
#define LINEERR_INVALLINEHANDLE TAPI_ERROR(0x2bu)
#define LINEERR_INVALMEDIAMODE TAPI_ERROR(0x2fu)
#define LINEERR_INVALPARAM TAPI_ERROR(0x32u)
#define LINEERR_INVALPOINTER TAPI_ERROR(0x35u)
#define LINEERR_INVALPRIVSELECT TAPI_ERROR(0x36u)
#define LINEERR_NOCONFERENCE TAPI_ERROR(0x41u)
#define LINEERR_NODEVICE TAPI_ERROR(0x42u)
#define LINEERR_NOMEM TAPI_ERROR(0x44u)
#define LINEERR_NOTOWNER TAPI_ERROR(0x46u)
#define LINEERR_OPERATIONFAILED TAPI_ERROR(0x48u)
#define LINEERR_OPERATIONUNAVAIL TAPI_ERROR(0x49u)
#define LINEERR_RESOURCEUNAVAIL TAPI_ERROR(0x4bu)
#define LINEERR_STRUCTURETOOSMALL TAPI_ERROR(0x4du)
#define LINEERR_TARGETNOTFOUND TAPI_ERROR(0x4eu)
#define LINEERR_TARGETSELF TAPI_ERROR(0x4fu)
#define LINEERR_UNINITIALIZED TAPI_ERROR(0x50u)

typedef struct {
    uint32_t hDevice, dwMessageID, dwCallbackInstance;
    uint32_t dwParam1, dwParam2, dwParam3, dwParam4;
} LINEMESSAGE;

/* The fields of LINECALLINFO that this subset fills. The caller sets dwTotalSize; offsets count
 * from the start of the structure, sizes include the terminating zero. */
typedef struct {
    uint32_t dwTotalSize, dwNeededSize, dwUsedSize;
    HLINE hLine;
    uint32_t dwLineDeviceID, dwAddressID, dwMediaMode, dwCallID, dwCallStates;
    uint32_t dwOrigin, dwReason, dwNumOwners, dwNumMonitors;
    uint32_t dwCallerIDSize, dwCallerIDOffset, dwCalledIDSize, dwCalledIDOffset;
} LINECALLINFO;

typedef struct {
    uint32_t dwTotalSize, dwNeededSize, dwUsedSize;
    uint32_t dwCallState, dwCallStateMode, dwCallPrivilege, dwCallFeatures;
} LINECALLSTATUS;

/* Followed by dwCallsNumEntries handles at dwCallsOffset. */
typedef struct {
    uint32_t dwTotalSize, dwNeededSize, dwUsedSize;
    uint32_t dwCallsNumEntries, dwCallsSize, dwCallsOffset;
} LINECALLLIST;

/* All functions return 0, a positive request id (the asynchronous ones: lineMakeCall, lineAnswer,
 * lineAccept, lineDrop; a LINE_REPLY with the id and the result follows), or a negative LINEERR. */

/* Attaches the process to the server at the socket named by TAPISRV_SOCKET (default
 * /tmp/tapisrv.sock) if it is not yet, and registers an application under module name `name`. */
int32_t lineInitializeEx(HLINEAPP *app, const char *name, uint32_t *num_devices,
                         uint32_t *api_version, uint32_t options);
int32_t lineShutdown(HLINEAPP app);
int32_t lineNegotiateAPIVersion(HLINEAPP app, uint32_t device, uint32_t low, uint32_t high,
                                uint32_t *version);
int32_t lineOpen(HLINEAPP app, uint32_t device, HLINE *line, uint32_t version,
                 uint32_t callback_instance, uint32_t privileges, uint32_t media_modes);
int32_t lineClose(HLINE line);
int32_t lineSetAppPriority(const char *name, uint32_t media_mode, uint32_t priority);
/* *call is valid only after LINE_REPLY with result 0. dest is a SIP URI. */
int32_t lineMakeCall(HLINE line, HCALL *call, const char *dest);
int32_t lineAnswer(HCALL call);
int32_t lineAccept(HCALL call);
int32_t lineDrop(HCALL call);
int32_t lineDeallocateCall(HCALL call);
/* name NULL: hand off by media mode. */
int32_t lineHandoff(HCALL call, const char *name, uint32_t media_mode);
int32_t lineGetNewCalls(HLINE line, uint32_t address, uint32_t select, LINECALLLIST *list);
int32_t lineGetConfRelatedCalls(HCALL call, LINECALLLIST *list);
int32_t lineSetCallPrivilege(HCALL call, uint32_t privilege);
int32_t lineGetCallInfo(HCALL call, LINECALLINFO *info);
int32_t lineGetCallStatus(HCALL call, LINECALLSTATUS *status);
/* Waits up to timeout_ms (-1: for ever) for the next message of `app`. LINEERR_OPERATIONFAILED:
 * none came, or the server is gone (then tapi_connected() is 0). */
int32_t lineGetMessage(HLINEAPP app, LINEMESSAGE *message, int timeout_ms);

/* The descriptor that becomes readable when messages come; messages that arrived while a reply was
 * awaited are in memory already, so ask tapi_queued() before polling it. -1: not connected. */
int tapi_event_fd(void);
unsigned tapi_queued(void);
int tapi_connected(void);

#endif
